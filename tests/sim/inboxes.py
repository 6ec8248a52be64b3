"""I1: a while after everything has healed, the inboxes of a topic's members say where the topic is."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from headgate.core.wire.ids import user_shard

if TYPE_CHECKING:
    from tests.sim.world import World

WITHIN_S: Final = 15.0
STEP_S: Final = 0.5


async def check(world: "World") -> None:
    """Waits until every inbox is true; one that is not in time breaks the invariant."""
    deadline = world.loop.now() + WITHIN_S
    while (wrong := next(_wrong(world), None)) is not None and world.loop.now() < deadline:
        await asyncio.sleep(STEP_S)
    if wrong is not None:
        world.violate("I1", wrong)


def _wrong(world: "World") -> Iterator[str]:
    """Yields what is wrong at the moment."""
    nodes = [node for node in world.dispatchers.values() if node.up]
    owners = [owner for node in nodes for _, owner in sorted(node.service.dispatcher.owners.items())]
    for owner in owners:
        for key, row in sorted(owner.rows.items()):
            if row.ephemeral or not row.seq:
                continue
            place = row.epoch, row.seq, row.n
            for user, member in owner.shard.members_above(key, row, "", 1_000):
                joined = row.epoch, member.joined_seq, member.joined_n
                shard = user_shard(user, world.plan.shards)
                for other in (other for other in owners if other.number == shard):
                    head = other.inbox.users.heads.find(row.topic_id)
                    found = joined if head is None else max(joined, (head.epoch, head.seq, head.n))
                    if found != place:
                        yield f"topic {row.topic_id} is at {place}, the inbox of {user} in shard {shard} says {found}"
