"""U1: a while after everything has healed, every owner and every gateway lists exactly the users who are there."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from headgate.core.wire.ids import shard_of, topic_key

if TYPE_CHECKING:
    from tests.sim.world import World

WITHIN_S: Final = 15.0
STEP_S: Final = 0.5


async def check(world: "World") -> None:
    """Waits until every list is true; one that is not in time breaks the invariant."""
    deadline = world.loop.now() + WITHIN_S
    while (wrong := next(_wrong(world), None)) is not None and world.loop.now() < deadline:
        await asyncio.sleep(STEP_S)
    if wrong is not None:
        world.violate("U1", wrong)


def _wrong(world: "World") -> Iterator[str]:
    """Yields what is wrong at the moment."""
    gateways = [gateway for gateway in world.gateways if gateway.up]
    for topic_id, epoch in sorted(world.truth.alive.items()):
        truth: Counter[str] = Counter()
        for gateway in gateways:
            feed = gateway.service.hub.feeds.get(topic_id)
            for subscription in [] if feed is None or feed.epoch != epoch else feed.subscriptions():
                assert subscription.session.caller is not None
                truth[subscription.session.caller.user_id] += 1
        for who, users in _lists(world, topic_id, epoch):
            if users != truth:
                yield f"topic {topic_id}: {who} lists {dict(users)}, there are {dict(truth)}"


def _lists(world: "World", topic_id: str, epoch: int) -> Iterator[tuple[str, Counter[str]]]:
    shard = shard_of(topic_key(topic_id), world.plan.shards)
    for node in world.dispatchers.values():
        api = node.service.dispatcher.api(shard) if node.up else None
        topic = None if api is None else api.presence._topics.get(topic_id)
        if api is not None and api.presence.announcements.complete:
            listed = [] if topic is None or topic.epoch != epoch else topic.listed()
            yield node.name, Counter({user.user_id: user.connections for user in listed})
    for gateway in world.gateways:
        replica = gateway.service.hub.audience.presence._replicas.get(topic_id) if gateway.up else None
        if replica is not None and replica.epoch == epoch:
            yield gateway.name, Counter({user.user_id: user.connections for user in replica.users.values()})
