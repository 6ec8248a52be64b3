"""What operators see of inboxes: how much is kept, and the largest backlog, found a bounded part at a time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dispatcher import inbox_backlogs
from dispatcher.inbox_backlogs import InboxBacklogs
from dispatcher.shard import ShardOwner
from headgate.core.inbox import inbox_pages, top_backlogs
from headgate.core.wire.inbox_record import HeadEntry
from headgate.core.wire.link_inbox import ReadMark
from headgate.core.wire.records import Record
from tests.contract.virtual import VirtualLoop, run
from tests.core.inbox.inbox_log import heads, joined, marks
from tests.dispatcher.bed import configured_shard, owner_of


def owner_with(*records: Record, number: int = 0, whole: bool = True) -> ShardOwner:
    owner = owner_of(configured_shard())
    owner.number = number
    for record in records:
        owner.inbox.users.apply(record)
    owner.inbox.follower.is_complete = whole
    return owner


class Served:
    """The part of a dispatcher that is used: the owners of the shards that are served."""

    def __init__(self, *owners: ShardOwner) -> None:
        self.owners = {owner.number: owner for owner in owners}
        self.backlogs = InboxBacklogs(self)  # type: ignore[arg-type]


def watched(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(VirtualLoop(), scene())


async def for_seconds(served: Served, seconds: float) -> None:
    task = asyncio.create_task(served.backlogs.run())
    await asyncio.sleep(seconds + 0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_gauges_are_of_all_shards_that_are_served() -> None:
    async def scene() -> None:
        one = owner_with(joined("ann", "t"), joined("bob", "t"), heads(HeadEntry("t", 5, 9, 9)))
        two = owner_with(
            joined("eve", "u"), heads(HeadEntry("u", 5, 20, 20)), marks(ReadMark("eve", "u", 5, 1, 1)), number=1
        )
        served = Served(one, two)
        found = served.backlogs
        assert (found.memberships(), found.heads(), found.marks(), found.most()) == (3, 2, 1, 0)
        await for_seconds(served, 1)
        assert found.most() == 19
        two.inbox.users.apply(marks(ReadMark("eve", "u", 5, 20, 20)))
        await for_seconds(served, 1)
        assert found.most() == 9
        del served.owners[0]
        await for_seconds(served, 1)
        assert (found.memberships(), found.most()) == (1, 0)

    watched(scene)


def test_the_users_with_most_are_listed_in_the_shard_s_lists() -> None:
    async def scene() -> None:
        users = [f"u{n:02}" for n in range(12)]
        entries = [joined(user, f"t-{user}") for user in users]
        sizes = [HeadEntry(f"t-{user}", 5, n, n) for n, user in enumerate(users)]
        owner = owner_with(*entries, heads(*sizes))
        served = Served(owner)
        await for_seconds(served, 2)
        found = owner.tallies.tops.lists.backlogs
        assert [entry.id for entry in found] == users[:1:-1], "ten of them"
        assert (found[0].count, found[-1].count) == (11, 2)

    watched(scene)


def test_a_shard_whose_inbox_log_is_being_read_is_not_looked_at() -> None:
    async def scene() -> None:
        served = Served(owner_with(joined("ann", "t"), heads(HeadEntry("t", 5, 9, 9)), whole=False))
        await for_seconds(served, 2)
        assert served.backlogs.most() == 0

    watched(scene)


def test_a_long_round_is_made_over_several_seconds_and_the_shards_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_backlogs, "STEPS", 4)
    for module in (inbox_pages, top_backlogs):
        monkeypatch.setattr(module, "SLICE_TOPICS", 5)

    async def scene() -> None:
        many = [joined(f"u{n:03}", "t") for n in range(100)] + [joined("v", f"t{n}") for n in range(3)]
        one = owner_with(*many, heads(HeadEntry("t", 5, 1, 1)), heads(*[HeadEntry(f"t{n}", 5, 9, 9) for n in range(3)]))
        two = owner_with(joined("eve", "u"), heads(HeadEntry("u", 5, 2, 2)), number=1)
        served = Served(one, two)
        await for_seconds(served, 1)
        assert served.backlogs.most() == 2
        await for_seconds(served, 7)
        assert served.backlogs.most() == 27

    watched(scene)
