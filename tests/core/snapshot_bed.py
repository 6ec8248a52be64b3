"""A shard, its rows, a writer and the snapshots log, for tests."""

from collections.abc import Iterable, Iterator, Sequence
from random import Random

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.pairs import NoPairs, Pairs
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import Chunk, chain_among, read_chunk, restoring
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from headgate.core.wire.control import Config, CreateTopic, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_bundle, encode_control
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.records import Record

CONFIG = Config(cluster_id="c", generation=1, shards=1, shard=0)
TOPIC = "t"


class Bed:
    """Offsets of the snapshots log begin at 0; `failing` are those at which an append fails."""

    def __init__(self) -> None:
        self.shard = Shard()
        self.rows: dict[bytes, Row] = {}
        self.writer = SnapshotWriter()
        self.log: list[bytes] = []
        self.fed: list[Record] = []

    def feed(self, records: Iterable[Record]) -> None:
        for record, applied in apply_many(self.shard, self.rows, records):
            self.fed.append(record)
            if applied.effects:
                self.writer.touch(record.key or b"")

    def snapshot(self, *, base: bool | None = None, fail_at: int | None = None) -> bool:
        """Writes one; the append number `fail_at` fails. Says whether it was written."""
        base = self.writer.wants_base if base is None else base
        steps = (
            self.writer.base(self.shard, self.rows, len(self.log)) if base else self.writer.delta(self.shard, self.rows)
        )
        done = 0
        for value in steps:
            if value is None:
                continue
            if done == fail_at:
                steps.close()
                return False
            self.log.append(value)
            done += 1
        return True

    def restart(self) -> None:
        """Goes on as another node would."""
        chain = self.chain()
        self.shard, self.rows = restore(chain)
        self.writer = SnapshotWriter()
        self.writer.resume(chain, self.shard.window)

    def chunks(self) -> list[Chunk]:
        return [chunk for at, value in enumerate(self.log) if (chunk := read_chunk(at, value)) is not None]

    def chain(self) -> list[Chunk]:
        return chain_among(self.chunks())


class RandomBed:
    """Feeds random changes, with `step` of the test, also between the slices of a snapshot."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.shard, self.rows, self.writer = Shard(), dict[bytes, Row](), SnapshotWriter()
        self.log: list[bytes] = []
        self.offset = 0

    def step(self) -> None:
        """Feeds one record."""
        raise NotImplementedError

    def snapshot(self, *, busy: bool) -> list[bytes]:
        """Writes one and returns its chunks; `busy` takes steps between its slices."""
        base = self.writer.wants_base or self.rng.random() < 0.2
        steps = self.writer.base(self.shard, self.rows, 0) if base else self.writer.delta(self.shard, self.rows)
        written: list[bytes] = []
        for value in steps:
            if value is not None:
                written.append(value)
            for _ in range(self.rng.randrange(6) if busy else 0):
                self.step()
        self.log += written
        return written

    def chain(self) -> list[Chunk]:
        return chain_among(chunk for at, value in enumerate(self.log) if (chunk := read_chunk(at, value)))


def snapshots_of(chain: Sequence[Chunk]) -> Iterator[tuple[int, list[Chunk]]]:
    """Yields each snapshot of a chain, the base first: the offset it ends at, and its chunks."""
    chunks: list[Chunk] = []
    for chunk in chain:
        chunks.append(chunk)
        if chunk.is_end:
            yield chunk.offset, chunks
            chunks = []


def restore(chain: Sequence[Chunk], pairs: Pairs | None = None) -> tuple[Shard, dict[bytes, Row]]:
    """Restores a chain at once. Raises BrokenChain."""
    steps = restoring(chain, NoPairs() if pairs is None else pairs)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            restored: tuple[Shard, dict[bytes, Row]] = done.value
            return restored


def same(restored: tuple[Shard, dict[bytes, Row]], bed: Bed) -> bool:
    shard, rows = restored
    return rows == bed.rows and state_of(shard) == state_of(bed.shard)


def state_of(shard: Shard) -> Sequence[object]:
    window = shard.window
    state = (shard.next_offset, shard.log_ms, shard.changes, shard.config, shard.digest.value)
    return (*state, len(window), window.oldest, window.mark())


def configured(config: Config = CONFIG, topics: Sequence[str] = (TOPIC,)) -> list[Record]:
    """The beginning of a log: its config and topics, from offset 0 on."""
    records = [Record(0, 1_000, b"hg:config", encode_control(encode_body(config), 0))]
    for n, topic in enumerate(topics, 1):
        control = CreateTopic(topic_id=topic, name=topic, permissions="PUBLIC", owner_id="ann")
        records.append(Record(n, 1_000, topic_key(topic), encode_control(encode_body(control), 0)))
    return records


def bundle(offset: int, first: int, count: int, *, epoch: int = (1 << 44) | 1, keyed: bool = False) -> Record:
    """`count` messages of TOPIC in one record, ids from `first` on."""
    key = topic_key(TOPIC)
    tail = b'"message_id":"x","publisher_id":"p","payload":1}'
    items = [Item(keyed_id(key, "p", str(n)), KEYED * keyed, tail) for n in range(first, first + count)]
    return Record(offset, 1_000 + offset, key, encode_bundle(items, epoch))
