"""One owned shard: reads its log, applies, pushes to the gateways that host a topic; knows no socket."""

import asyncio
import enum
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from dispatcher.dead_letters import DeadLetters
from dispatcher.index import BATCH, HistoryIndex, Identity
from dispatcher.recovery import Recovered, recover
from headgate.core.apply import Applied, Code, DeadLetter, Deliver, Effect, Gone, Made, Verdict, apply_many
from headgate.core.envelope import decode
from headgate.core.link import Ended, Message
from headgate.core.marks import Disagreement, Mark, Marks
from headgate.core.records import Batch, LogName, Record
from headgate.core.routes import Route, Routes
from headgate.core.rows import Row, Shard
from headgate.core.snapshot import SnapshotWriter
from headgate.core.verdicts import Verdicts
from headgate.core.window import SEQ_UNKNOWN
from headgate.runtime.ports import Log, LogUnavailable

READ_RECORDS: Final = 2_000
SLICE_RECORDS: Final = 200  # about 2 ms of applying and routing, then others have the loop
LINK_BYTES: Final = 8 * 1024 * 1024  # a link with more queued gets no live messages; its routes fall behind
RETRY_S: Final = 0.5
SLICE_BYTES: Final = 128 * 1024  # bundles: many messages in few records
BACKLOG: Final = 20_000  # messages kept in memory; above, the index is written faster than messages come
EMPTY_READS: Final = 3  # of a second each: then what is left cannot be read, an open foreign transaction


class Session(Protocol):
    """What a shard needs of a link's session."""

    open: bool  # False once the link is gone: nothing may be added for it any more

    def send(self, message: Message) -> None:
        """Queues a message."""

    @property
    def congested(self) -> bool:
        """Whether more than LINK_BYTES are queued."""

    def later(self, owner: "ShardOwner", message: Message) -> None:
        """Handles a request again when the link has room for its answer."""

    def fall_behind(self, owner: "ShardOwner", route: "Route[Session]") -> None:
        """Has the route served from the index until it is in step again."""


class Events(Protocol):
    """What a shard tells its dispatcher."""

    async def may_push(self) -> None:
        """Waits until this node is known to be the owner of what it serves."""

    def changed(self, topic_id: str) -> None:
        """A topic came, went or changed."""

    def sequenced(self, verdict: str, count: int) -> None:
        """Counts verdicts."""

    def dead_letter(self, reason: str) -> None:
        """Counts a dead letter."""

    def linked(self, count: int) -> None:
        """Counts messages sent to gateways."""

    def mark_of(self, shard: int) -> Mark | None:
        """Returns what another run said it had decided."""

    def disagreed(self, shard: int, found: Disagreement) -> None:
        """Another node decided something else from the same log."""


class State(enum.Enum):
    """RESTORING until caught up, then LIVE; PARKED with a reason that an operator has to end."""

    RESTORING = 1
    LIVE = 2
    PARKED = 3


class ShardOwner:
    """The state of one shard and what is done with it. One task runs `tail`; requests come in between, on the loop."""

    def __init__(self, number: int, epoch: int, log: Log, index_folder: Path | None, events: Events) -> None:
        self.number = number
        self.epoch = epoch
        self.log = log
        self.state = State.RESTORING
        self.why = "restoring"
        self.shard = Shard()
        self.rows: dict[bytes, Row] = {}
        self.routes: Routes[Session] = Routes()
        self.verdicts = Verdicts()
        self.writer = SnapshotWriter()
        self.dead_letters = DeadLetters(log, number)
        self.recovered: Recovered | None = None
        self.snapshot_offset = 0  # what the newest snapshot in the log reaches: messages before it may be dropped
        self.lag = 0
        self._empty_reads = 0
        self._folder = index_folder
        self._events = events
        self._when_complete: list[Callable[[], None]] = []
        self._when_made: dict[str, list[Callable[[bool], None]]] = {}
        self.live = asyncio.Event()
        self.marks = Marks(0)
        self.index: HistoryIndex

    # -- life

    async def restore(self) -> Recovered:
        """Reads the newest snapshot. Raises what `recover` does."""
        found = await recover(self.log, self.number)
        self.recovered = found
        self.shard, self.rows = found.shard, found.rows
        self.marks = Marks(found.shard.next_offset)
        said = self._events.mark_of(self.number)
        if said is not None:
            self.heard(said)
        if found.chain:
            self.writer.resume(found.chain)
            self.snapshot_offset = found.shard.next_offset
        return found

    def open_index(self, identity: Identity) -> int | None:
        """Opens the index file. Returns the offset from which history must be rebuilt, None where it is whole."""
        path: Path | str = ":memory:"
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"shard-{self.number}.db"
        assert self.recovered is not None
        self.index = HistoryIndex(path, identity, self.recovered.end)
        from_the_log_alone = not self.recovered.chain  # then `tail` reads it all
        if from_the_log_alone or self.index.next_offset >= self.shard.next_offset:
            self.index_done()
            return None
        return self.index.next_offset

    async def tail(self) -> None:
        """Applies the log's records as they come, until cancelled. Raises what parks the shard."""
        reader = await self.log.reader(LogName.MESSAGES, self.number, self.shard.next_offset)
        try:
            while True:
                try:
                    batch = await reader.read(READ_RECORDS, 1.0)
                except LogUnavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._take_batch(batch)
        finally:
            await reader.close()

    async def _take_batch(self, batch: Batch) -> None:
        for records in _slices(batch.records):
            await self._events.may_push()
            self.take(records)
            await asyncio.sleep(0)
            await self.dead_letters.room()
        self.lag = max(batch.end - batch.next_offset, 0)
        if self.state is State.RESTORING and await self._caught_up(batch):
            self.state, self.why = State.LIVE, ""
            self.live.set()
        if self.index.backlog >= (BATCH if batch.records else 1):
            self.index.flush(BATCH * (1 + self.index.backlog // BACKLOG))

    async def _caught_up(self, batch: Batch) -> bool:
        """Says whether what stood in the log at the claim is applied, or waits behind a foreign transaction."""
        if self.shard.config is None or self.recovered is None:
            return self.shard.config is not None
        if batch.next_offset >= self.recovered.end:
            return True
        self._empty_reads = 0 if batch.records else self._empty_reads + 1
        if self._empty_reads < EMPTY_READS:
            return False
        try:
            await self.log.bounds(LogName.MESSAGES, self.number)
        except LogUnavailable:
            return False  # the log is silent, not at its end
        return True

    def park(self, why: str) -> None:
        """Stops serving: skipping a record would make this node's numbers differ from others'."""
        self.state, self.why = State.PARKED, why

    # -- records

    def take(self, records: Sequence[Record]) -> None:
        """Applies records and sends what they bring: messages first, then the verdicts that wait for them."""
        counts: dict[str, int] = {}
        for record, applied in apply_many(self.shard, self.rows, records):
            self._take_one(record, applied)
            if record.offset >= self.marks.due:
                self._compared(self.marks.add(self.shard.next_offset, self.shard.digest.value))
            for verdict in applied.verdicts:
                counts[verdict.code.name] = counts.get(verdict.code.name, 0) + 1
        self.index.advance(self.shard.next_offset)
        self.send_open()
        self.verdicts.release()
        for name, count in counts.items():
            self._events.sequenced(name.lower(), count)

    def heard(self, mark: Mark) -> None:
        """Compares what this node decided with what another says it did."""
        self._compared(self.marks.heard(mark))

    def _compared(self, found: Disagreement | None) -> None:
        if found is not None:
            self._events.disagreed(self.number, found)

    def _take_one(self, record: Record, applied: Applied) -> None:
        if applied.effects:
            self.writer.touch(record.key or b"")
        for effect in applied.effects:
            if type(effect) is Deliver:
                self.routes.push(effect)
                self.index.add(record.offset, effect)
            else:
                self._rare(record, effect)
        self.verdicts.put(record.offset, self._with_seqs(record, applied.verdicts))

    def _with_seqs(self, record: Record, verdicts: list[Verdict]) -> list[Verdict]:
        """Looks up the seq of a duplicate whose first the window only remembers as seen."""
        if not any(v.code is Code.DUPLICATE and v.seq == SEQ_UNKNOWN for v in verdicts):
            return verdicts
        items = decode(record.value or b"").items
        return [
            v._replace(seq=self.index.seq_of(item.id, v.epoch) or SEQ_UNKNOWN) if v.seq == SEQ_UNKNOWN else v
            for v, item in zip(verdicts, items, strict=True)
        ]

    def _rare(self, record: Record, effect: Effect) -> None:
        if isinstance(effect, DeadLetter):
            self.dead_letters.add(record, effect)
            self._events.dead_letter(effect.reason)
        elif isinstance(effect, Made):
            self._events.changed(effect.row.topic_id)
            for callback in self._when_made.pop(effect.row.topic_id, ()):
                callback(True)
        elif isinstance(effect, Gone):
            self.send_open()
            for session in self.routes.drop_topic(effect.topic_id):
                session.send(Ended(effect.topic_id, effect.epoch, "deleted"))
            self.index.forget(effect.epoch)
            self._events.changed(effect.topic_id)

    def send_open(self) -> None:
        """Sends the open batches; a congested link's routes fall behind instead."""
        for session, messages in self.routes.take():
            if session.congested:
                route = self.routes.get(session, messages.topic_id)
                if route is not None:
                    route.sent = messages.seq - 1
                    session.fall_behind(self, route)
            else:
                session.send(messages)
                self._events.linked(len(messages.frames))

    # -- history

    def index_done(self) -> None:
        """The index answers for the whole range from now on: whoever waited for that is served."""
        self.index.complete = True
        waiting, self._when_complete = self._when_complete, []
        for callback in waiting:
            callback()

    def when_complete(self, callback: Callable[[], None]) -> None:
        """Calls back once the index is whole."""
        if self.index.complete:
            callback()
        else:
            self._when_complete.append(callback)

    def when_made(self, topic_id: str, callback: Callable[[bool], None]) -> bool:
        """Calls back once the topic exists, or could not be made. Says whether this is the first to wait for it."""
        waiting = self._when_made.setdefault(topic_id, [])
        waiting.append(callback)
        return len(waiting) == 1

    def not_made(self, topic_id: str) -> None:
        """Tells who waits for a topic that its create record did not reach the log."""
        for callback in self._when_made.pop(topic_id, ()):
            callback(False)


def _slices(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cuts a read into pieces of a few milliseconds of work each."""
    start, size = 0, 0
    for at, record in enumerate(records, 1):
        size += len(record.value or b"")
        if at - start >= SLICE_RECORDS or size >= SLICE_BYTES or at == len(records):
            yield records[start:at]
            start, size = at, 0
