"""Lifecycle events from three gateways and two dispatchers to one watcher, over a change of the topic's owner."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headgate.core.wire.link import Message
from headgate.core.wire.link_events import EventsHappened
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime.http.call import Call
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.tokens import Authenticator, TokenKey
from ingest.event_streams import EventStreams
from ingest.rates import RateLimits, Rates
from tests.integration.cluster_twin import SECRET, SHARDS, Cluster, cluster, until

TOPIC = "room"
ROOT = Caller("root", admin=True)


class Operator:
    """An ingest of which only the event streams are there, and one stream of everything."""

    def __init__(self, world: Cluster) -> None:
        clock = SystemClock()
        authenticator = Authenticator("jwt", TokenKey(SECRET), clock)
        self._streams = EventStreams(
            world.ingest, authenticator, Rates(clock, SystemRng(), RateLimits()), clock, SystemRng()
        )
        self.events: list[dict[str, Any]] = []
        world.ingest.deliver_to(self)

    def on_push(self, shard_epoch: int, message: Message) -> None:
        if isinstance(message, EventsHappened):
            self._streams.happened(message)

    def on_owner(self, shard: int, up: bool) -> None:
        self._streams.on_owner(shard, up)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        share = MemoryBudget().share()
        reply = await self._streams.watch(Call(ROOT, {}, {}, b"", "", None, b"", share, identity=Identity(ROOT)))
        assert reply.stream is not None
        reading = asyncio.create_task(self._read(reply.stream))
        try:
            yield
        finally:
            self._streams.begin_drain()
            await reading

    async def _read(self, stream: AsyncIterator[bytes]) -> None:
        async for text in stream:
            for line in text.decode().split("\n"):
                if line.startswith("data: "):
                    self.events.append(json.loads(line.removeprefix("data: ")))

    def of(self, name: str, seq: int) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("event") == name and event.get("seq") == seq]


def _on(world: Cluster) -> bool:
    """Whether every gateway and owner tells."""
    owners = [owner for node in world.dispatchers for owner in node.service.dispatcher.owners.values()]
    return len(owners) == SHARDS and all(
        events.on for events in [*(g.service.hub.events for g in world.gateways), *(o.events for o in owners)]
    )


async def test_each_gateway_tells_what_it_delivered_and_the_owner_what_it_numbered_over_a_failover() -> None:
    async with cluster() as world:
        epoch = await world.create(TOPIC)
        sockets = [await world.follow(at, user, TOPIC) for at, user in ((0, "ann"), (0, "bob"), (1, "cid"))]
        operator = Operator(world)
        assert not any(gateway.service.hub.events.on for gateway in world.gateways)
        async with operator.watching():
            await until(lambda: _on(world))
            await world.publish(TOPIC, epoch, 1)
            await until(lambda: len(operator.of("delivered", 1)) == 2)
            assert sorted(event["subscribers"] for event in operator.of("delivered", 1)) == [1, 2]
            (enqueued,) = operator.of("message_enqueued", 1)
            assert (enqueued["subscribers"], enqueued["topic"], enqueued["epoch"]) == (3, TOPIC, epoch)
            dave = await world.follow(2, "dave", TOPIC)
            await until(lambda: any(event.get("subscriber") == "dave" for event in operator.events))

            await world.owner_of(TOPIC).kill()
            await until(lambda: {"event": "gap", "reason": "owner", "count": None} in operator.events, 20)
            await until(lambda: _on(world), 20)
            await world.publish(TOPIC, epoch, 2)
            await until(lambda: len(operator.of("delivered", 2)) == 3)
            assert len(operator.of("message_enqueued", 2)) == 1
        await until(lambda: not any(gateway.service.hub.events.on for gateway in world.gateways))
        for socket in [*sockets, dave]:
            await socket.close()
