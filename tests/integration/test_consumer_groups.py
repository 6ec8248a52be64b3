"""Consumer groups over two gateways and a dispatcher, on the embedded log and on Kafka."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headgate.core.wire.control import Actor, DeleteTopic, RemoveMember, SetMember
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng
from tests.integration.cluster_twin import until
from tests.integration.groups_twin import GroupsBed, Member, groups_bed

SHARDS = 2
ROOT = Actor("root")
RETRY = {"kind": "fixed", "first_ms": 400, "max_ms": 400, "jitter": 0, "max_attempts": 3}
SLOW = {**RETRY, "first_ms": 60_000, "max_ms": 60_000}


@pytest.fixture(params=["embedded", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    found: Log
    if request.param == "embedded":
        found = SqliteLog(tmp_path / "log.db", SystemClock(), SystemRng(), SHARDS)
    else:
        options = LogOptions(
            f"kafka://{request.getfixturevalue('kafka_bootstrap')}",
            request.getfixturevalue("log_prefix"),
            shards=SHARDS,
        )
        await init_kafka(options)
        found = KafkaLog(options)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def bed(log: Log) -> AsyncIterator[GroupsBed]:
    async with groups_bed(log) as found:
        yield found


def shares(*members: Member) -> dict[int, list[int]]:
    """Which members got each message."""
    found: dict[int, list[int]] = defaultdict(list)
    for at, member in enumerate(members):
        for seq in member.seqs():
            found[seq].append(at)
    return found


def stored(*members: Member) -> set[int]:
    return set().union(*(member.stored for member in members))


async def test_each_message_goes_to_one_member_and_those_of_a_key_in_order_to_the_same(bed: GroupsBed) -> None:
    await bed.create("t", retry=SLOW)
    members = [await bed.member(at % 2, "t") for at in range(3)]
    other = await bed.member(1, "t", "other")
    plain = await bed.member(0, "t", "w", user="eve")
    (subscribed,) = plain.of("subscribed")
    assert (subscribed["group"], subscribed["seq"], subscribed["subscriber_count"]) == ("w", 0, 5)
    assert "resumed" not in subscribed
    await bed.publish("t", range(60), keys=7)
    await until(lambda: len(stored(*members, plain)) == 60 and len(other.stored) == 60, 20)
    assert all(len(who) == 1 for who in shares(*members, plain).values())
    for member in [*members, plain]:
        assert member.seqs() == sorted(member.seqs())
    for n in range(7):
        who = {tuple(where) for seq, where in shares(*members, plain).items() if (seq - 1) % 7 == n}
        assert len(who) == 1, "a key changed its member"
    assert other.seqs() == list(range(1, 61)), "another group gets all"
    assert sum(bool(member.messages) for member in [*members, plain]) > 1, "seven keys, shared by hashes"
    frame = next(iter(other.messages.values()))
    assert frame["key"] == "k0" and "attempt" not in frame


async def test_what_a_member_had_goes_to_the_others_when_it_leaves_or_its_connection_dies(bed: GroupsBed) -> None:
    await bed.create("t", retry=SLOW)
    silent = await bed.member(0, "t", answers=lambda seq, attempt: "")
    await bed.publish("t", range(6))
    await until(lambda: len(silent.got) == 6, 20)
    await silent.answer("ack", 2)
    await until(lambda: silent.stored == {2}, 20)
    slow = await bed.member(1, "t", answers=lambda seq, attempt: "")
    await silent.send(type="unsubscribe", topic_id="t")
    await until(lambda: len(slow.got) == 4, 20)
    assert slow.got == [(3, 2), (4, 2), (5, 2), (6, 2)]
    last = await bed.member(0, "t")
    slow.socket.transport.abort()
    await until(lambda: len(last.stored) == 4, 20)
    assert last.got == [(3, 3), (4, 3), (5, 3), (6, 3)]


async def test_refused_messages_come_again_and_end_as_one_dead_letter(bed: GroupsBed) -> None:
    await bed.create("t", retry=RETRY)
    fails = {2: 99, 4: 2}
    members = [
        await bed.member(at, "t", answers=lambda seq, attempt: "nack" if attempt <= fails.get(seq, 0) else "ack")
        for at in range(2)
    ]
    await bed.publish("t", range(5))
    await until(lambda: stored(*members) == {1, 3, 4, 5}, 20)
    tries = sorted(each for member in members for each in member.got if each[0] in fails)
    await until(lambda: 'headgate_dead_letters_total{reason="max_attempts"} 1.0' in bed.metrics.render().decode(), 20)
    assert tries == [(2, 1), (2, 2), (2, 3), (4, 1), (4, 2), (4, 3)]
    for member in members:
        await member.close()
    late = await bed.member(0, "t", begin="earliest")
    await bed.publish("t", [5])
    await until(lambda: late.stored == {6}, 20)
    assert late.got == [(6, 1)], "the group goes on behind what is done"


@pytest.mark.parametrize("drain", [False, True])
async def test_the_next_owner_goes_on_and_nothing_that_is_stored_comes_again(bed: GroupsBed, drain: bool) -> None:
    await bed.create("t", retry=SLOW)
    members = [await bed.member(at, "t", answers=lambda seq, attempt: "") for at in range(2)]
    await bed.publish("t", range(40), keys=20)
    await until(lambda: len(shares(*members)) == 40, 20)
    done = {}
    for member in members:
        first = member.seqs()[:3]
        for seq in first[:2]:
            await member.answer("ack", seq)
        done[member] = first[:2]
    await until(lambda: len(stored(*members)) == 4, 20)
    held = members[0].seqs()[2]
    await bed.kill(drain=drain)
    await members[0].answer("ack", held)  # nobody is there: it waits
    await asyncio.sleep(0.1)
    await bed.start()
    await until(lambda: held in members[0].stored, 20)
    await bed.publish("t", range(40, 45), keys=5)
    await until(lambda: len(shares(*members)) == 45, 20)
    assert all(len(who) == 1 for who in shares(*members).values()), "the members hold the rest: it does not come again"
    last = await bed.member(0, "t")
    for member in members:
        await member.close()
    await until(lambda: len(last.stored) == 40, 20)
    assert not {seq for seqs in done.values() for seq in seqs} & set(last.seqs())
    assert held not in last.seqs()


async def test_a_new_group_begins_where_it_asks_and_a_group_that_is_there_goes_on(bed: GroupsBed) -> None:
    await bed.create("t")
    await bed.publish("t", range(4))
    first = await bed.member(0, "t", begin={"last": 2})
    await until(lambda: len(first.stored) == 2 and bool(first.of("caught_up")), 20)
    assert first.seqs() == [3, 4] and first.of("caught_up")[0]["seq"] == 4
    live = await bed.member(0, "t", "live")
    new = await bed.member(0, "t", "new", begin="cursor")
    assert (new.of("subscribed")[0]["resumed"], new.of("subscribed")[0]["reason"]) == (False, "no_cursor")
    again = await bed.member(1, "t", "live", user="eve", begin="cursor")
    assert again.of("subscribed")[0]["resumed"] is True
    assert live.got == []
    await live.close()
    await again.close()
    await bed.publish("t", [4, 5])
    back = await bed.member(0, "t", "live")
    await until(lambda: back.seqs() == [5, 6], 20)


async def test_what_is_wrong_is_refused(bed: GroupsBed) -> None:
    await bed.create("t")
    await bed.create("e", profile="ephemeral")
    member = await bed.member(0, "e")
    assert member.of("error")[0]["code"] == "not_in_profile"

    async def asked(**wish: Any) -> dict[str, Any]:
        before = len(member.of("error"))
        await member.send(type="subscribe", topic_id="t", **wish)
        await until(lambda: len(member.of("error")) > before, 20)
        return member.of("error")[-1]

    assert "ack" in (await asked(group="w"))["message"]
    for wrong in ("", "é", "x" * 129, 7):
        assert (await asked(group=wrong, ack=True))["code"] == "bad_request"
    await member.send(type="subscribe", topic_id="t")
    await until(lambda: bool(member.of("subscribed")), 20)
    assert (await asked(group="w", ack=True))["code"] == "already_subscribed"
    joined = await bed.member(0, "t", answers=lambda seq, attempt: "")
    await joined.send(type="nack", topic_id="t", seq=9)
    await until(lambda: bool(joined.of("error")), 20)
    assert joined.of("error")[0]["code"] == "not_found"


async def test_a_dead_letter_that_is_replayed_goes_to_the_group_alone(bed: GroupsBed) -> None:
    await bed.create("t", retry={**RETRY, "max_attempts": 1})
    usable = False

    def answers(seq: int, attempt: int) -> str:
        return "nack" if seq == 1 and not usable else "ack"

    member, other = await bed.member(0, "t", answers=answers), await bed.member(1, "t", "other")
    await bed.publish("t", range(2))
    letters = await bed.letters("t", 1)
    assert [(letter.seq, letter.receiver.group, letter.attempts) for letter in letters] == [(1, "w", 1)]
    assert letters[0].receiver.user_id == ""
    usable = True
    await bed.replay("t", letters[0].id)
    await until(lambda: member.seqs().count(1) == 2, 20)
    assert member.messages[1]["attempt"] == 1 and other.seqs() == [1, 2]
    await bed.letters("t", 0)
    await until(lambda: not bed.owner("t").letters.store.replayed("t"), 20)
    usable = False
    await bed.publish("t", [2])
    await until(lambda: 3 in member.stored, 20)


async def test_who_loses_the_right_hands_over_and_a_deleted_topic_ends_its_groups(bed: GroupsBed) -> None:
    await bed.create("t", retry=SLOW)
    await bed.control("t", SetMember("t", "bob", "member", ROOT))
    bob = await bed.member(0, "t", answers=lambda seq, attempt: "")
    await bed.publish("t", range(3))
    await until(lambda: bob.seqs() == [1, 2, 3], 20)
    await bed.control("t", SetMember("t", "eve", "member", ROOT))
    eve = await bed.member(1, "t", user="eve")
    await bed.control("t", RemoveMember("t", "bob", ROOT))
    await until(lambda: len(eve.stored) == 3, 20)
    assert bob.of("unsubscribed")[0]["reason"] == "forbidden"
    assert eve.got == [(1, 2), (2, 2), (3, 2)]
    await bed.control("t", DeleteTopic("t"))
    await until(lambda: bool(eve.of("unsubscribed")), 20)
    assert eve.of("unsubscribed")[0]["reason"] == "deleted"
    await bed.create("t")
    again = await bed.member(1, "t", user="eve")
    await bed.publish("t", [7])
    await until(lambda: again.stored == {1}, 20)


async def test_a_message_that_was_redacted_meanwhile_comes_again_without_its_content(bed: GroupsBed) -> None:
    await bed.create("t", retry=SLOW)
    first = await bed.member(0, "t", answers=lambda seq, attempt: "")
    await bed.publish("t", range(2))
    await until(lambda: len(first.got) == 2, 20)
    await bed.redact("t", 1)
    await until(lambda: len(first.got) == 3, 20)
    second = await bed.member(1, "t")
    await first.close()
    await until(lambda: len(second.stored) == 3, 20)
    assert second.messages[1]["payload"] is None and second.messages[1]["redacted"] is True
    assert second.messages[2]["payload"] == 1 and second.messages[3]["kind"] == "redact"


async def test_messages_that_are_kept_no_longer_are_a_gap(bed: GroupsBed) -> None:
    await bed.create("t", retry=SLOW, retention_messages=3)
    first = await bed.member(0, "t", answers=lambda seq, attempt: "")
    await bed.publish("t", range(2))
    await until(lambda: len(first.got) == 2, 20)
    await first.close()
    await bed.publish("t", range(8))
    back = await bed.member(1, "t")
    await until(lambda: back.stored == {8, 9, 10}, 20)
    assert [(gap["from_seq"], gap["to_seq"], gap["reason"]) for gap in back.of("gap")] == [(1, 7, "retention")]


async def test_a_member_that_does_not_read_holds_up_nobody(bed: GroupsBed) -> None:
    await bed.create("t", retry=SLOW)
    silent = await bed.member(0, "t", answers=lambda seq, attempt: "")
    worker = await bed.member(1, "t")
    await bed.publish("t", range(200))
    await until(lambda: len(worker.stored) + len(silent.got) == 200, 30)
    assert len(silent.got) > 20 and len(worker.stored) > 20
