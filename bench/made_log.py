"""A message log that is made while it is read, so that a bench of millions of messages measures the owner alone.

The other logs (snapshots, dead letters) are real ones in memory. What a shard holds: its config record, `topics`
create records, then bundles round robin over them. Offset alone decides a record.
"""

import asyncio
import time
from typing import Final, NamedTuple

from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_bundle, encode_control
from headgate.core.wire.ids import keyed_id, make_epoch, topic_key
from headgate.core.wire.records import Batch, Bounds, LogName, Record
from headgate.runtime.logs.embedded import config_record, counter_of
from headgate.runtime.logs.memory_log import MemoryLog, MemoryReader
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.system import SystemClock, SystemRng

FIRST: Final = 1_000_000_000_000
TAIL: Final = b'"message_id":"7f1ddbbd-e5e6-8f4d-96c8-a2ea4da39d30","publisher_id":"bench","payload":{"n":123456}}'


class Recipe(NamedTuple):
    """What the log holds: `bundles` of `items` messages each, `ms` of log time between two records."""

    topics: int
    bundles: int
    items: int
    keyed: bool
    ms: int = 100

    @property
    def end(self) -> int:
        """The offset behind the last record."""
        return FIRST + 1 + self.topics + self.bundles

    def topic(self, n: int) -> bytes:
        """Returns the key of a topic."""
        return b"topic.%07d" % n


class MadeLog(MemoryLog):
    """One shard; `upto` says how far the log has grown, so that a bench can stop in between."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(MemoryStore(SystemClock(), SystemRng(), 1, 1 << 40))
        self.recipe = recipe
        self.upto = recipe.end
        self.grown = asyncio.Event()
        self.making_s = 0.0  # CPU seconds that the bench itself took

    def snapshots_mb(self) -> float:
        """Returns the megabytes of this process that the snapshots log takes: in life Kafka's, not the owner's."""
        part = self._store.parts[LogName.SNAPSHOTS, 0]
        return sum(len(record.value or b"") for record in part.slice(part.first, part.end).records) / (1 << 20)

    def grow(self, upto: int) -> None:
        """Lets the log grow to an offset."""
        self.upto = upto
        self.grown.set()

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns what a part holds."""
        return Bounds(FIRST, self.upto) if log is LogName.MESSAGES else await super().bounds(log, shard)

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> MemoryReader:
        """Opens a position."""
        if log is not LogName.MESSAGES:
            return await super().reader(log, shard, offset, background=background)
        return MadeReader(self, offset, counter_of(log, background=background))

    async def make(self, first: int, end: int) -> list[Record]:
        """Makes some records: a task of its own, whose CPU is not the owner's."""
        started = time.process_time()
        records = [self.record(offset) for offset in range(first, end)]
        self.making_s += time.process_time() - started
        return records

    def record(self, offset: int) -> Record:
        """Makes one record."""
        recipe, n = self.recipe, offset - FIRST
        ts = 1_700_000_000_000 + n * recipe.ms
        if n == 0:
            return Record(offset, ts, *config_record(self.cluster_id, 1, 0))
        if n <= recipe.topics:
            name = recipe.topic(n - 1)
            create = CreateTopic(topic_id=name.decode(), name=name.decode(), permissions="PUBLIC", owner_id="bench")
            return Record(offset, ts, name, encode_control(encode_body(create), 0, keyed_id(name, "bench", "made")))
        topic = (n - 1) % recipe.topics
        key = topic_key(recipe.topic(topic).decode())
        flags = KEYED if recipe.keyed else 0
        items = [Item(keyed_id(key, "p", str(n * recipe.items + i)), flags, TAIL) for i in range(recipe.items)]
        return Record(offset, ts, key, encode_bundle(items, make_epoch(1, FIRST + 1 + topic)))


class MadeReader(MemoryReader):
    """A position in a made log. One read gives at most READ messages, as the Kafka adapter's reads do."""

    READ = 2_000

    def __init__(self, log: MadeLog, offset: int, counter: str) -> None:
        self._made = log
        self._at = offset
        self._name = counter

    async def read(self, max_records: int, wait_s: float) -> Batch:
        """Returns the next records."""
        made = self._made
        if self._at >= made.upto:
            made.grown.clear()
            await asyncio.wait({asyncio.ensure_future(made.grown.wait())}, timeout=wait_s)
        most = self.READ if self._at < FIRST + 1 + made.recipe.topics else max(self.READ // made.recipe.items, 1)
        to = max(min(self._at + min(max_records, most), made.upto), self._at)
        records = await asyncio.create_task(made.make(self._at, to), name="making")
        self._at = to
        made.records_read[self._name] += len(records)
        return Batch(records, self._at, made.upto)
