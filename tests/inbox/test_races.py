"""What happens between two owners: the topic's and the user's are different nodes, and everything is at once."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import pytest

from headgate.core.wire.ids import shard_of, topic_key, user_shard
from headgate.runtime.testing.faulty_log import Reach
from tests.inbox.bed import POLL_S, ROOT, SETTLE_S, SHARDS, SimulatedInboxes, names

TOPIC: Final = names("t", 0, 1)[0]
USER, OTHER = names("c", 1, 2, of_users=True)
INBOX: Final = "/api/v1/inbox"
MEMBERS: Final = f"/api/v1/topics/{TOPIC}/members"


@pytest.fixture
def bed() -> Iterator[SimulatedInboxes]:
    """Two dispatchers: one owns the topic, the other one the users."""
    bed = SimulatedInboxes()
    try:
        bed.do(_apart(bed))
        yield bed
    finally:
        bed.close()


async def _apart(bed: SimulatedInboxes) -> None:
    async with asyncio.timeout(SETTLE_S):
        while None in (owners := [bed.owner(shard) for shard in range(SHARDS)]) or owners[0] is owners[1]:
            await asyncio.sleep(POLL_S)
    await bed.served()


async def create(bed: SimulatedInboxes, *members: str) -> None:
    """ROOT's topic, with members."""
    reply = await bed.asked(ROOT, "POST", "/api/v1/topics", {"name": TOPIC, "topic_id": TOPIC})
    assert reply.status == 201, reply
    for user in members:
        await join(bed, user)


async def join(bed: SimulatedInboxes, user: str) -> int:
    reply = await bed.asked(ROOT, "PUT", f"{MEMBERS}/{user}", {"role": "member"})
    assert reply.status == 200, reply
    joined: int = reply.body["joined_seq"]
    return joined


async def publish(bed: SimulatedInboxes, count: int) -> int:
    """Returns the number of the last."""
    for n in range(count):
        reply = await bed.publish(ROOT, TOPIC, {"n": n})
        assert reply.status == 200, reply
    seq: int = reply.body["seq"]
    return seq


async def entries(bed: SimulatedInboxes, user: str) -> list[dict[str, Any]]:
    reply = await bed.asked(user, "GET", INBOX, device_id="desk")
    assert reply.status == 200, reply
    return [{name: entry[name] for name in entry if name != "epoch"} for entry in reply.body["topics"]]


async def missed(bed: SimulatedInboxes, user: str) -> list[int]:
    reply = await bed.asked(user, "GET", f"{INBOX}/messages", device_id="desk", limit=1_000)
    assert reply.status == 200, reply
    return [frame["seq"] for frame in reply.body["messages"]]


async def ack(bed: SimulatedInboxes, user: str, seq: int, kind: str = "read") -> int:
    """Asks once."""
    body = {"topic_id": TOPIC, "device_id": "desk", "seq": seq, "kind": kind}
    return (await bed.ask(user, "POST", f"{INBOX}/ack", body)).status


async def becomes(bed: SimulatedInboxes, expected: object, look: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Waits until what is asked for is this; it stays so."""
    deadline = bed.loop.now() + SETTLE_S
    while (found := await look()) != expected:
        assert bed.loop.now() < deadline, f"{found}, expected {expected}"
        await asyncio.sleep(POLL_S)
    await asyncio.sleep(2.0)
    assert await look() == expected


def places(head: int, *, unread: int, cursor: int = 0, read: int = 0) -> dict[str, Any]:
    return {
        "topic_id": TOPIC,
        "mode": "direct",
        "head_seq": head,
        "cursor_seq": cursor,
        "read_seq": read,
        "unread": unread,
    }


def test_the_names_are_of_different_shards() -> None:
    assert shard_of(topic_key(TOPIC), SHARDS) == 0
    assert user_shard(USER, SHARDS) == user_shard(OTHER, SHARDS) == 1


def test_a_message_right_after_a_join_is_missed_and_the_one_before_is_not(bed: SimulatedInboxes) -> None:
    async def scene() -> None:
        await create(bed)
        await publish(bed, 1)
        joining = asyncio.create_task(join(bed, USER))
        await publish(bed, 3)
        joined = await joining  # somewhere among them
        last = await publish(bed, 1)
        above = list(range(joined + 1, last + 1))
        await becomes(bed, above, lambda: missed(bed, USER))
        entry = places(last, unread=len(above), cursor=joined, read=joined)
        await becomes(bed, [entry], lambda: entries(bed, USER))

    bed.do(scene())


def test_who_leaves_while_messages_come_sees_nothing_any_more_and_later_only_what_is_new(bed: SimulatedInboxes) -> None:
    async def scene() -> None:
        await create(bed, USER, OTHER)
        publishing = asyncio.create_task(publish(bed, 40))
        await asyncio.sleep(0.05)
        reply = await bed.asked(ROOT, "DELETE", f"{MEMBERS}/{USER}")
        assert reply.status == 204
        last = await publishing
        await becomes(bed, [], lambda: entries(bed, USER))
        assert await missed(bed, USER) == []
        assert await ack(bed, USER, last) == 404
        await becomes(bed, list(range(1, last + 1)), lambda: missed(bed, OTHER))
        assert await join(bed, USER) == last
        newest = await publish(bed, 2)
        await becomes(bed, [last + 1, newest], lambda: missed(bed, USER))
        await becomes(bed, [places(newest, unread=2, cursor=last, read=last)], lambda: entries(bed, USER))

    bed.do(scene())


@pytest.mark.parametrize("pause_s", [0.0, 0.03, 0.12])
def test_a_topic_that_is_deleted_and_recreated_within_one_flush_begins_anew(
    bed: SimulatedInboxes, pause_s: float
) -> None:
    async def scene() -> None:
        await create(bed, USER, OTHER)
        await publish(bed, 5)
        await asyncio.sleep(pause_s)
        assert (await bed.asked(ROOT, "DELETE", f"/api/v1/topics/{TOPIC}")).status == 204
        await create(bed, USER)
        await publish(bed, 2)
        await becomes(bed, [places(2, unread=2)], lambda: entries(bed, USER))
        await becomes(bed, [1, 2], lambda: missed(bed, USER))
        await becomes(bed, [], lambda: entries(bed, OTHER))
        assert await missed(bed, OTHER) == []

    bed.do(scene())


@pytest.mark.parametrize("kind", ["read", "delivered"])
@pytest.mark.parametrize("pause_ms", [0, 2, 4, 6, 8, 12])
def test_a_mark_that_was_resolved_before_a_deletion_is_none_of_the_recreated_topic(
    bed: SimulatedInboxes, pause_ms: int, kind: str
) -> None:
    async def scene() -> None:
        await create(bed, USER)
        last = await publish(bed, 5)
        marking = asyncio.create_task(ack(bed, USER, last, kind))
        await asyncio.sleep(pause_ms / 1_000)
        assert (await bed.asked(ROOT, "DELETE", f"/api/v1/topics/{TOPIC}")).status == 204
        await create(bed, USER)
        assert await marking in (204, 404)
        await publish(bed, 3)
        await becomes(bed, [places(3, unread=3)], lambda: entries(bed, USER))
        await becomes(bed, [1, 2, 3], lambda: missed(bed, USER))

    bed.do(scene())


@pytest.mark.parametrize("drained", [True, False])
def test_while_the_users_owner_moves_each_answer_is_whole_or_503(bed: SimulatedInboxes, drained: bool) -> None:
    async def scene() -> None:
        await create(bed, USER)
        last = await publish(bed, 5)
        assert await ack(bed, USER, 2) == 204
        right = places(last, unread=3, read=2)
        await becomes(bed, [right], lambda: entries(bed, USER))
        node = bed.owner(1)
        assert node is not None
        moving = asyncio.create_task(node.drain() if drained else node.crash(0.5))
        statuses: set[int] = set()
        moved, last_status = False, 0
        deadline = bed.loop.now() + SETTLE_S
        while not (moved and last_status == 200):
            reply = await bed.ask(USER, "GET", INBOX, device_id="desk")
            last_status = reply.status
            statuses.add(last_status)
            assert reply.status in (200, 503), reply
            if reply.status == 200:
                assert [entry | right for entry in reply.body["topics"]] == reply.body["topics"] != [], reply
            page = await bed.ask(USER, "GET", f"{INBOX}/messages", device_id="desk", limit=100)
            assert page.status in (200, 503), page
            if page.status == 200:  # a topic's owner may be away, too: then there is more
                seqs = [frame["seq"] for frame in page.body["messages"]]
                assert seqs == list(range(1, last + 1)) or (seqs == [] and page.body["more"]), page
            moved = moving.done() and bed.owner(1) not in (None, node)
            assert bed.loop.now() < deadline
            await asyncio.sleep(0.02)
        assert drained or 503 in statuses

    bed.do(scene())


@pytest.mark.parametrize("reach", [Reach.REFUSED, Reach.SILENT])
@pytest.mark.parametrize("kind", ["read", "delivered"])
def test_with_the_log_away_a_mark_is_refused_and_what_was_answered_204_is_there(
    bed: SimulatedInboxes, reach: Reach, kind: str
) -> None:
    async def scene() -> None:
        await create(bed, USER)
        last = await publish(bed, 9)
        assert await ack(bed, USER, 3, kind) == 204
        node = bed.owner(1)
        assert node is not None
        node.log.reach = reach
        assert await ack(bed, USER, 7, kind) in (503, 504)
        node.log.reach = Reach.OK
        await becomes(bed, 1, lambda: _places_of(bed, kind, (3, 7)))  # one that is unknown may be there
        assert (await bed.asked(USER, "POST", f"{INBOX}/ack", _mark(5, kind))).status == 204
        await bed.kill(1, 0.0)
        await becomes(bed, 1, lambda: _places_of(bed, kind, (5, 7)))
        assert last == 9

    bed.do(scene())


def _mark(seq: int, kind: str) -> dict[str, object]:
    return {"topic_id": TOPIC, "device_id": "desk", "seq": seq, "kind": kind}


async def _places_of(bed: SimulatedInboxes, kind: str, possible: tuple[int, ...]) -> int:
    """Returns how many topics there are whose place is one of these."""
    name = "read_seq" if kind == "read" else "cursor_seq"
    found = await entries(bed, USER)
    assert all(entry[name] in possible for entry in found), found
    return len(found)


def test_a_takeover_of_the_topic_writes_the_pointers_that_its_dead_owner_did_not(bed: SimulatedInboxes) -> None:
    async def scene() -> None:
        await create(bed, USER)
        await publish(bed, 3)
        await becomes(bed, [places(3, unread=3)], lambda: entries(bed, USER))
        for round_ in range(4):
            last = await publish(bed, 2)  # the pointer is not written yet
            await bed.kill(0, 0.0)
            await becomes(bed, [places(last, unread=last)], lambda last=last: entries(bed, USER))  # type: ignore[misc]
            assert last == 3 + 2 * (round_ + 1)

    bed.do(scene())


def test_both_owners_die_at_once_and_everything_is_there(bed: SimulatedInboxes) -> None:
    async def scene() -> None:
        await create(bed, USER)
        last = await publish(bed, 6)
        assert await ack(bed, USER, 2) == 204
        assert await ack(bed, USER, 4, "delivered") == 204
        async with asyncio.TaskGroup() as tasks:
            for shard in range(SHARDS):
                tasks.create_task(bed.kill(shard, 0.0))
        expected = places(last, unread=4, cursor=4, read=2)
        await becomes(bed, [expected], lambda: entries(bed, USER))
        await becomes(bed, [5, 6], lambda: missed(bed, USER))

    bed.do(scene())
