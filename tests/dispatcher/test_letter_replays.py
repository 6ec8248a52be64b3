"""Replayed messages reach their gateways: at once, when they attach, when they want them, and after an owner change."""

import json
from collections.abc import Callable

from dispatcher.letter_replays import LetterReplays
from headgate.core.delivery import replays as gateway_replays
from headgate.core.delivery.dead_letter_record import LetterEnded
from headgate.core.delivery.replays import REPLAYS
from headgate.core.delivery.retry import fixed
from headgate.core.wire import link
from headgate.core.wire.link_dead_letters import LetterDone, Receiver, WantReplays
from tests.dispatcher.bed import until
from tests.dispatcher.letters_bed import PHONE, LettersBed, records_of, redelivered
from tests.dispatcher.members_bed import Far
from tests.dispatcher.test_recovery import a_log


async def replayed(bed: LettersBed, seq: int = 2, receiver: Receiver = PHONE) -> str:
    """Gives up a message and has it replayed; returns the letter."""
    await bed.give_up(seq, receiver)
    letter_id = next(shown.id for shown in await bed.letters() if (shown.seq, shown.receiver) == (seq, receiver))
    await bed.decide(letter_id)
    return letter_id


def attach(bed: LettersBed, peer: Far, cursor: int = 3) -> None:
    topic = link.AttachTopic("t", bed.row.epoch, cursor, 1)
    bed.api.handle(peer, link.Attach(0, True, True, [topic]))


async def test_a_gateway_that_attaches_gets_what_is_being_replayed() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        letter_id = await replayed(bed)
        await bed.give_up(3)
        for version in (link.VERSION_HIGH, 1):
            peer = Far(version)
            attach(bed, peer)
            assert [again.id for again in redelivered(peer)] == ([letter_id] if version > 1 else [])


async def test_a_gateway_that_wants_a_receivers_replays_gets_those_alone() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        mine = await replayed(bed)
        await replayed(bed, 2, Receiver("bob", "laptop"))
        await replayed(bed, 3, Receiver(group="workers"))
        peer, epoch = bed.subscriber(), bed.row.epoch
        for receiver, at, expected in (
            (PHONE, epoch, [mine]),
            (PHONE, epoch + 1, []),
            (Receiver("bob"), epoch, []),
            (Receiver("workers"), epoch, []),
        ):
            bed.api.handle(peer, WantReplays("t", at, receiver))
            assert [again.id for again in redelivered(peer)] == expected, receiver
        bed.api.handle(peer, WantReplays("other", epoch, PHONE))
        assert redelivered(peer) == []


async def test_after_an_owner_change_replays_go_on() -> None:
    log = await a_log()
    bed = LettersBed(log)
    async with bed.run():
        letter_id = await replayed(bed)
    after = LettersBed(log)
    early, want = after.subscriber(), after.subscriber()
    attach(after, early)
    assert redelivered(early) == [], "it does not know yet"
    after.api.handle(want, WantReplays("t", after.row.epoch, PHONE))
    async with after.run():
        for peer in (early, want):
            (again,) = redelivered(peer)
            assert (again.id, again.seq, json.loads(again.frame)["payload"]) == (letter_id, 2, {"n": 2})
        assert await after.letters() == [], "it is not in the list while it is being replayed"


async def test_a_replay_is_asked_for_again_and_is_sent_again() -> None:
    bed = LettersBed(await a_log())
    peer = bed.subscriber()
    async with bed.run():
        letter_id = await replayed(bed)
        assert [again.id for again in redelivered(peer)] == [letter_id]
        assert not isinstance(await bed.decide(letter_id), link.Refused)
        assert [again.id for again in redelivered(peer)] == [letter_id]
    assert len(await records_of(bed.log)) == 2


async def test_what_is_purged_while_it_waits_for_room_on_a_link_is_not_sent() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        letter_id = await replayed(bed)
        peer = bed.subscriber()
        waiting: list[Callable[[], None]] = []

        def later(answer: Callable[[], None]) -> bool:
            waiting.append(answer)
            return True

        peer.later = later  # type: ignore[method-assign]
        attach(bed, peer)
        assert len(waiting) == 1
        await bed.decide(letter_id, purge=True)
        waiting.pop()()
        assert redelivered(peer) == []


async def test_a_replay_whose_message_is_lost_meanwhile_ends() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        letter_id = await replayed(bed)
        bed.row.settings["retention_messages"] = 1
        peer = Far()
        attach(bed, peer)
        assert redelivered(peer) == []
        await until(lambda: len(bed.owner.letters.store) == 0)
    assert (await records_of(bed.log))[-1] == LetterEnded(letter_id, "t", "gone")


async def test_the_owner_of_a_log_that_is_read_already_needs_no_second_look() -> None:
    bed = LettersBed(await a_log())
    async with bed.run():
        LetterReplays(bed.owner, None, ())  # type: ignore[arg-type]  # no message is looked for
        assert bed.owner.letters._waiting == []


async def test_many_replays_of_one_receiver_are_sent_as_it_takes_them_and_not_all_each_time() -> None:
    """Each is a whole message: whoever subscribes again and again would have them all sent each time."""
    count = 5 * REPLAYS
    bed = LettersBed(await a_log(), messages=count)
    async with bed.run():
        for seq in range(1, count + 1):
            await bed.give_up(seq)
        for shown in await bed.letters():
            await bed.decide(shown.id)
        peer, epoch, sent, done = bed.subscriber(), bed.row.epoch, 0, set[int]()
        here = gateway_replays.Replays(fixed())
        bed.api.handle(peer, WantReplays("t", epoch, PHONE))
        while again := redelivered(peer):
            sent += len(again)
            for each in again:
                here.add(each.seq, each.id)
            more, here.turned_away = here.turned_away, False
            present = [seq for seq in range(1, count + 1) if seq in here]
            for seq in present[: REPLAYS // 2] if more else present:
                letter_id = here.ack(seq)
                assert letter_id is not None and seq not in done
                done.add(seq)
                bed.api.handle(peer, LetterDone("t", epoch, letter_id))
            if more:
                bed.api.handle(peer, WantReplays("t", epoch, PHONE))
        assert len(done) == count
        assert sent <= 3 * count


async def test_replays_whose_messages_are_gone_do_not_keep_others_waiting() -> None:
    bed = LettersBed(await a_log(), messages=REPLAYS + 4)
    async with bed.run():
        for seq in range(1, REPLAYS + 5):
            await bed.give_up(seq)
        for shown in await bed.letters():
            await bed.decide(shown.id)
        bed.row.settings["retention_messages"] = 2
        peer = bed.subscriber()
        bed.api.handle(peer, WantReplays("t", bed.row.epoch, PHONE))
        assert [again.seq for again in redelivered(peer)] == [REPLAYS + 3, REPLAYS + 4]
