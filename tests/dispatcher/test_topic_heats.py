"""Heat of topics: counted where subscriptions and members change, told in band, kept for the next owner."""

import asyncio
from typing import Any

import msgspec
import pytest
import uvloop

from dispatcher.dispatcher_options import ShardOptions
from dispatcher.topic_heats import GRACE_S
from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.heat import Heat
from headgate.core.wire import link
from headgate.core.wire.control import CreateTopic, DeleteTopic, UpdateTopic
from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_inbox import TopicHeat
from headgate.core.wire.rights import Caller
from headgate.core.wire.topic_settings import usual_with
from tests.contract.virtual import VirtualLoop, run
from tests.dispatcher.members_bed import ADMIN, ROOT, Far, MembersBed

LOW = {"paced_above": 2, "hot_enter": 4, "hot_exit": 3}
DWELL = 10.0


class Bed(MembersBed):
    """The owner of `t`, whose bounds are low, since 20 s."""

    def __init__(self, settings: dict[str, Any] | None = None, clock: Any = None) -> None:
        super().__init__()
        virtual: Any = asyncio.get_running_loop()
        self.owner.heats._clock = clock or virtual
        self.row.settings = dict(LOW if settings is None else settings)
        self.owner.heats.begin()

    def subscribe(self, peer: Far, times: int = 1) -> str:
        """Returns the heat in the last answer; the others are what the gateway was sent."""
        for _ in range(times):
            answer = self.ask(link.AskSubscribe(1, "t", ADMIN), peer)
            assert isinstance(answer, link.Subscribed), answer
        return str(answer.heat)

    def leave(self, peer: Far, times: int = 1) -> None:
        self.api.handle(peer, link.Leave("t", self.row.epoch, times))

    @property
    def mode(self) -> str:
        answer = self.ask(link.AskTopic(1, "t", ADMIN))
        assert isinstance(answer, link.TopicAnswer)
        return answer.info.mode

    def heat(self) -> Heat:
        return self.owner.heats.get(self.row)


def heats(peer: Far) -> list[str]:
    return [message.heat for message in peer.taken() if isinstance(message, TopicHeat)]


def scene(main: Any) -> Any:
    def test() -> None:
        run(VirtualLoop(), main())

    test.__name__ = main.__name__
    return test


@scene
async def test_subscriptions_of_all_gateways_heat_a_topic_and_it_cools_down_again() -> None:
    bed, first, second = Bed(), Far(), Far()
    await asyncio.sleep(20)
    assert (bed.subscribe(first), bed.mode) == ("direct", "direct")
    assert (bed.subscribe(second), bed.mode) == ("paced", "direct")
    assert (heats(first), heats(second)) == (["paced"], ["paced"])
    bed.subscribe(first)
    assert (bed.subscribe(first), bed.mode) == ("inbox", "inbox")
    assert (heats(first), heats(second)) == (["inbox"], ["inbox"])
    assert bed.row.heat == "inbox" and bed.owner.writer.touched(b"t")
    bed.leave(first, 1)
    await asyncio.sleep(30)
    assert (bed.heat(), heats(first)) == (Heat.INBOX, []), "hot_exit is below"
    bed.leave(first)
    assert (bed.heat(), heats(first), heats(second)) == (Heat.PACED, ["paced"], ["paced"])
    bed.leave(first)
    assert bed.heat() is Heat.PACED, "the dwell"
    await asyncio.sleep(DWELL + 0.1)
    assert (bed.heat(), heats(second), bed.row.heat) == (Heat.DIRECT, ["direct"], "")


@scene
async def test_members_heat_a_topic_too_and_leaves_cool_it() -> None:
    bed = Bed()
    await asyncio.sleep(20)
    for user in ("bob", "eve", "dan"):
        bed.feed(bed.join(user))
    assert (bed.heat(), bed.mode, bed.changes[-1]) == (Heat.INBOX, "inbox", ("t", "")), "ingests are told"
    bed.feed(bed.remove("bob"), bed.remove("eve"))
    assert bed.heat() is Heat.INBOX
    await asyncio.sleep(DWELL + 0.1)
    assert bed.heat() is Heat.PACED, "at the end of the dwell, though nothing happened then"


@scene
async def test_a_topic_may_be_hot_from_its_creation_on() -> None:
    bed = Bed()
    await asyncio.sleep(20)
    settings = {"hot_enter": 1, "hot_exit": 0}
    bed.feed(bed.control(CreateTopic("s", "s", "PUBLIC", "ann", settings), b"s"))
    assert bed.owner.heats.get(bed.owner.rows[b"s"]) is Heat.INBOX


@scene
async def test_what_came_before_a_switch_goes_out_before_it_and_later_messages_behind() -> None:
    bed, gateway, other = Bed(), Far(), Far()
    await asyncio.sleep(20)
    bed.subscribe(gateway, 3)
    bed.feed(bed.message())
    gateway.taken()
    bed.owner.routes.push(deliver(bed))
    bed.subscribe(other)
    bed.feed(bed.message())
    kinds = [type(message).__name__ for message in gateway.taken()]
    assert kinds == ["Messages", "TopicHeat", "Messages"]


def deliver(bed: Bed) -> Any:
    bed.row.seq += 1
    return Deliver("t", bed.row.epoch, bed.row.seq, 5, b"m" * 16, 0, b"{}", 0)


@scene
async def test_a_patch_swaps_the_bounds_while_running() -> None:
    bed, gateway = Bed(settings={}), Far()
    await asyncio.sleep(20)
    assert bed.subscribe(gateway, 5) == "direct"
    bed.feed(bed.control(UpdateTopic("t", bed.row.version, ROOT, None, None, LOW)))
    assert (bed.mode, heats(gateway)) == ("inbox", ["inbox"])
    await asyncio.sleep(DWELL)
    bed.feed(bed.control(UpdateTopic("t", bed.row.version, ROOT, None, None, {})))
    assert (bed.mode, heats(gateway)) == ("direct", ["direct"])


@scene
async def test_an_attaching_gateway_is_told_and_an_old_one_never() -> None:
    bed, gateway, old, late = Bed(), Far(), Far(version=1), Far()
    await asyncio.sleep(20)
    bed.subscribe(gateway, 3)
    bed.subscribe(old)
    assert bed.heat() is Heat.INBOX
    assert heats(old) == []
    bed.api.handle(late, link.Attach(0, True, True, [link.AttachTopic("t", bed.row.epoch, 0, 1)]))
    kinds = [type(message).__name__ for message in late.sent]
    assert kinds == ["TopicHeat", "Attached"] and heats(late) == ["inbox"]


@scene
async def test_a_gateway_that_is_lost_for_a_moment_changes_nothing() -> None:
    bed, first, second = Bed(), Far(), Far()
    await asyncio.sleep(20)
    bed.subscribe(first, 2)
    bed.subscribe(second, 2)
    await asyncio.sleep(20)
    bed.owner.left(second)
    bed.leave(first)
    assert bed.heat() is Heat.INBOX
    await asyncio.sleep(GRACE_S - 1)
    bed.api.handle(second, link.Attach(0, True, True, [link.AttachTopic("t", bed.row.epoch, 0, 2)]))
    await asyncio.sleep(30)
    assert bed.heat() is Heat.INBOX, "three again: it stays above hot_exit"
    bed.owner.left(second)
    await asyncio.sleep(GRACE_S + 0.1)
    assert bed.heat() is Heat.DIRECT


@scene
async def test_a_new_owner_begins_with_the_hint_and_decides_after_the_dwell() -> None:
    bed = Bed()
    bed.row.heat = "inbox"
    assert bed.mode == "inbox"
    bed.owner.heats.begin()
    await asyncio.sleep(DWELL - 1)
    assert bed.mode == "inbox", "the gateways may not have announced yet"
    await asyncio.sleep(2)
    assert (bed.mode, bed.row.heat) == ("direct", "")


@scene
async def test_members_that_a_new_owner_finds_are_counted_without_anybody_coming() -> None:
    bed = Bed()
    await asyncio.sleep(1)
    for user in ("bob", "eve", "dan"):
        bed.feed(bed.join(user))
    bed.row.heat = ""
    bed.owner.heats.begin()
    assert bed.heat() is Heat.PACED, "at once; the inbox after the dwell"
    await asyncio.sleep(DWELL + 0.1)
    assert bed.heat() is Heat.INBOX


@scene
async def test_a_switch_is_an_event_a_pointer_and_a_number() -> None:
    bed, gateway = Bed(), Far()
    await asyncio.sleep(20)
    bed.owner.events.watch(0, EventFilter((), ("mode_switched",)))
    bed.subscribe(gateway, 4)
    (batch,) = bed.owner.events.take()
    event = msgspec.json.decode(batch.events[0].data)
    assert (event["event"], event["topic"], event["old"], event["new"]) == ("mode_switched", "t", "direct", "inbox")
    assert event["subscribers"] == 4
    assert b"t" in bed.owner.pointers._urgent
    assert (bed.owner.heats.number_of(Heat.INBOX), bed.owner.heats.number_of(Heat.PACED)) == (1, 0)
    bed.owner.close()
    bed.leave(gateway, 4)
    await asyncio.sleep(60)
    assert bed.owner.heats.number_of(Heat.INBOX) == 1, "a shard that was given up decides nothing"


@scene
async def test_a_message_counts_nothing_and_a_topic_that_is_gone_is_forgotten() -> None:
    bed, gateway = Bed(), Far()
    await asyncio.sleep(20)
    bed.subscribe(gateway, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bed.owner.heats, "changed", None)
        bed.feed(bed.message(), bed.message())
    bed.feed(bed.control(DeleteTopic("t")))
    assert bed.owner.heats.number_of(Heat.INBOX) == 0
    await asyncio.sleep(30)


@scene
async def test_an_installation_sets_the_bounds_of_topics_that_set_none() -> None:
    found, gateway = MembersBed(), Far()
    found.owner.heats.usual = usual_with(4, 3)
    found.owner.heats._clock = asyncio.get_running_loop()  # type: ignore[assignment]  # virtual time
    found.owner.heats.begin()
    await asyncio.sleep(20)
    for _ in range(4):
        answer = found.ask(link.AskSubscribe(1, "t", Caller("root", admin=True)), gateway)
    assert isinstance(answer, link.Subscribed)
    assert (answer.heat, answer.settings["hot_enter"], answer.settings["hot_exit"]) == ("inbox", 4, 3)


def test_the_default_dwell_is_ten_seconds() -> None:
    assert ShardOptions().hot_dwell_s == DWELL


def test_a_dwell_that_is_over_and_was_not_looked_at_yet_fails_no_request() -> None:
    """A timer of uvloop that is due is a plain handle."""

    class Ahead:
        passed_s = 0.0

        def now(self) -> float:
            return asyncio.get_running_loop().time() + self.passed_s

    async def main() -> None:
        clock, gateway = Ahead(), Far()
        bed = Bed(clock=clock)
        bed.owner.outputs.close()
        assert bed.subscribe(gateway, 2) == "paced"
        clock.passed_s = 2 * DWELL
        assert bed.subscribe(gateway, 3) == "inbox"
        bed.leave(gateway, 4)
        assert bed.heat() is Heat.INBOX, "its dwell began anew"

    uvloop.run(main())
