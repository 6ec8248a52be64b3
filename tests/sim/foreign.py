"""A foreign producer: a Kafka job that writes JSON, and now and then what nobody can read, straight into the log."""

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.core.wire.envelope import MAGIC
from headgate.core.wire.ids import foreign_id, id_text, shard_of, topic_key
from headgate.core.wire.records import LogName
from tests.sim.publishers import Ack, Sent

if TYPE_CHECKING:
    from tests.sim.world import World

NAME: Final = "kafka"
SPOILED: Final = 0.25
_BAD_VALUES: Final = (None, b"", b"not json", b"[" * 100 + b"]" * 100, b'"\xff"', MAGIC + b"\x01\x02", b"7" * 70_000)


class Foreign:
    """Writes `count` records; the log has them at once, which is its acknowledgement."""

    def __init__(self, world: "World", count: int) -> None:
        self.name = NAME
        self.sent: list[Sent] = []
        self._world = world
        self._rng = world.rng("foreign")
        self._count = count

    async def run(self) -> None:
        """Writes everything, spread over the run."""
        world, rng = self._world, self._rng
        ends = world.loop.now() + world.plan.active_s
        for _ in range(self._count):
            pause = rng.expovariate(self._count / world.plan.active_s)
            await asyncio.sleep(min(pause, ends - world.loop.now()))
            if world.loop.now() >= ends:
                return
            topic_id = rng.choice(world.plan.topics)
            key = topic_key(topic_id)
            shard = shard_of(key, world.plan.shards)
            part = world.store.parts[LogName.MESSAGES, shard]
            now, ts = world.loop.now(), world.broker_clock.wall_ms()
            if rng.random() < SPOILED:
                part.add(ts, rng.choice((key, key, None, b"nobody")), rng.choice(_BAD_VALUES))
                continue
            sent = Sent(NAME, topic_id, len(self.sent), True, now, None)
            place = part.add(ts, key, msgspec.json.encode(sent.payload))
            sent.message_id = id_text(foreign_id(key, shard, place.offset))
            sent.acks.append(Ack(now, 0, 0))
            self.sent.append(sent)
