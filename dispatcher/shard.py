"""One owned shard: reads its log, applies, pushes to the gateways that host a topic; knows no socket."""

import asyncio
import enum
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from dispatcher.arrivals import Arrivals
from dispatcher.dead_letters import DeadLetters
from dispatcher.history import History
from dispatcher.index import last_record_of
from dispatcher.log_end import LogEnd
from dispatcher.log_pages import LogPages
from dispatcher.recovery import Recovered, recover
from dispatcher.topic_list import TopicList
from headgate.core.sequencer.apply import Applied, Deliver, Effect, TopicCreated, TopicDeleted, Unusable, apply_many
from headgate.core.sequencer.marks import Disagreement, Mark, Marks
from headgate.core.sequencer.recent_verdicts import RecentVerdicts
from headgate.core.sequencer.routes import Route, Routes
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from headgate.core.sequencer.window import SEQ_UNKNOWN
from headgate.core.wire.envelope import decode
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link import AttachTopic, Ended, Message
from headgate.core.wire.records import Batch, LogName, Record, slices
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.ports import Log, LogUnavailable

READ_RECORDS: Final = 2_000
READ_S: Final = 1.0
RESTORING_READ_S: Final = 0.05  # a shard whose snapshot reaches the log's end must not wait for a record to see that
LINK_BYTES: Final = 8 * 1024 * 1024  # a link with more queued gets no live messages; its routes fall behind
RETRY_S: Final = 0.5
SLICE_TOPICS: Final = 5_000


class Destination(Protocol):
    """What a shard needs of a link's session."""

    open: bool  # False once the link is gone: nothing may be added for it any more

    def send(self, message: Message) -> None:
        """Queues a message."""

    @property
    def congested(self) -> bool:
        """Whether more than LINK_BYTES are queued."""

    def later(self, owner: "ShardOwner", message: Message) -> None:
        """Handles a request again when the link has room for its answer."""

    def fall_behind(self, owner: "ShardOwner", route: "Route[Destination]") -> None:
        """Has the route served from the index until it is in step again."""


class ShardMetrics(Protocol):
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

    def worked(self, work: str, seconds: float) -> None:
        """Notes how long one slice of background work held the loop."""

    def mark_of(self, shard: int) -> Mark | None:
        """Returns what another run said it had decided."""

    def disagreed(self, shard: int, found: Disagreement) -> None:
        """Another node decided something else from the same log."""


class ShardState(enum.Enum):
    """RESTORING until caught up, then LIVE; PARKED with a reason that an operator has to end."""

    RESTORING = 1
    LIVE = 2
    PARKED = 3


class ShardOwner:
    """The state of one shard and what is done with it. One task runs `tail`; requests come in between, on the loop."""

    def __init__(self, number: int, epoch: int, log: Log, events: ShardMetrics) -> None:
        self.number = number
        self.epoch = epoch
        self.log = log
        self.state = ShardState.RESTORING
        self.why = "restoring"
        self.shard = Shard()
        self.rows: dict[bytes, Row] = {}
        self.routes: Routes[Destination] = Routes()
        self.verdicts = RecentVerdicts()
        self.writer = SnapshotWriter()
        self.dead_letters = DeadLetters(log, number)
        self.recovered: Recovered | None = None
        self.snapshot_offset = 0  # what the newest snapshot in the log reaches: messages before it may be dropped
        self.lag = 0
        self.history = History(0, 0)
        self.pages = LogPages(log, number, self.history)
        self.log_end = LogEnd(log, number)
        self.topics = TopicList()
        self.arrivals: Arrivals[Destination] = Arrivals()
        self._events = events
        self._when_made: dict[str, list[tuple[Destination, Callable[[bool], None]]]] = {}
        self.live = asyncio.Event()
        self.marks = Marks(0)

    # -- life

    async def restore(self) -> None:
        """Reads the newest snapshot. Raises what `recover` does."""
        found = await recover(self.log, self.number, self._events.worked)
        self.shard, self.rows = found.shard, found.rows
        bounds = await self.log.bounds(LogName.MESSAGES, self.number)
        self.history = History(bounds.first, self.shard.next_offset)
        self.pages = LogPages(self.log, self.number, self.history)
        for at, row in enumerate(self.rows.values()):
            self.topics.add(row.topic_id, row.epoch)
            if at % SLICE_TOPICS == 0:
                await asyncio.sleep(0)
        self.marks = Marks(found.shard.next_offset)
        said = self._events.mark_of(self.number)
        if said is not None:
            self.heard(said)
        if found.chain:
            self.writer.resume(found.chain, found.shard.window)
            self.snapshot_offset = found.shard.next_offset
        self.recovered = found._replace(chain=found.chain[-1:])  # its end; the rest is a copy of the state

    async def tail(self) -> None:
        """Applies the log's records as they come, until cancelled. Raises what parks the shard."""
        reader = await self.log.reader(LogName.MESSAGES, self.number, self.shard.next_offset)
        try:
            while True:
                try:
                    wait_s = RESTORING_READ_S if self.state is ShardState.RESTORING else READ_S
                    batch = await reader.read(READ_RECORDS, wait_s)
                except LogUnavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._take_batch(batch)
        finally:
            await reader.close()

    async def _take_batch(self, batch: Batch) -> None:
        for records in slices(batch.records):
            await self._events.may_push()
            self.take(records)
            await asyncio.sleep(0)
            await self.dead_letters.room()
            while self.history.overfull:  # noqa: ASYNC110 - the file takes a batch each turn
                await asyncio.sleep(0)
        if batch.next_offset > self.shard.next_offset:  # over transaction markers too
            self.shard.next_offset = batch.next_offset
            self.history.advance(batch.next_offset, None)
        self.lag = max(batch.end - batch.next_offset, 0)
        self.log_end.applied(batch.next_offset)
        if self.state is ShardState.RESTORING and self._caught_up(batch):
            self.state, self.why = ShardState.LIVE, ""
            self.live.set()

    def _caught_up(self, batch: Batch) -> bool:
        """Says whether what stood in the log at the claim is applied, or waits behind a foreign transaction.

        A log that is only silent is not at its end: a shard that went live then would call good positions `ahead`.
        """
        if self.shard.config is None or self.recovered is None:
            return self.shard.config is not None
        return batch.next_offset >= min(self.recovered.end, batch.end if batch.stable is None else batch.stable)

    def park(self, why: str) -> None:
        """Stops serving: skipping a record would make this node's numbers differ from others'."""
        self.state, self.why = ShardState.PARKED, why

    # -- records

    def take(self, records: Sequence[Record]) -> None:
        """Applies records and sends what they bring: messages first, then the verdicts that wait for them."""
        counts: dict[int, int] = {}
        for record, applied in apply_many(self.shard, self.rows, records):
            self._take_one(record, applied)
            if record.offset >= self.marks.due:
                self._compared(self.marks.add(self.shard.next_offset, self.shard.digest.value))
            for verdict in applied.verdicts:
                counts[verdict.code] = counts.get(verdict.code, 0) + 1
        if records:
            self.history.advance(self.shard.next_offset, last_record_of(records[-1]))
        self.send_open()
        self.verdicts.release()
        for session, topic in self.arrivals.due(self.shard.next_offset):
            self.attach(session, topic)
        for code, count in counts.items():
            self._events.sequenced(Code(code).name.lower(), count)

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
                self.history.add(record.offset, effect)
            else:
                self._rare(record, effect)
        self.verdicts.put(record.offset, self._with_seqs(record, applied.verdicts))

    def _with_seqs(self, record: Record, verdicts: list[Verdict]) -> list[Verdict]:
        """Looks up the seq of a duplicate whose first the window only remembers as seen."""
        if not any(v.code == Code.DUPLICATE and v.seq == SEQ_UNKNOWN for v in verdicts):
            return verdicts
        items = decode(record.value or b"").items
        return [
            Verdict(v.code, self.history.seq_of(item.id, v.epoch) or SEQ_UNKNOWN, v.epoch)
            if v.seq == SEQ_UNKNOWN
            else v
            for v, item in zip(verdicts, items, strict=True)
        ]

    def _rare(self, record: Record, effect: Effect) -> None:
        if isinstance(effect, Unusable):
            self.dead_letters.add(record, effect)
            self._events.dead_letter(effect.reason)
        elif isinstance(effect, TopicCreated):
            self.topics.add(effect.row.topic_id, effect.row.epoch)
            self._events.changed(effect.row.topic_id)
            self._made(effect.row.topic_id, there=True)
        elif isinstance(effect, TopicDeleted):
            self.topics.remove(effect.topic_id, effect.epoch)
            self.send_open()
            for session in self.routes.drop_topic(effect.topic_id):
                session.send(Ended(effect.topic_id, effect.epoch, "deleted"))
            self.history.forget(record.offset, effect.epoch)
            self._events.changed(effect.topic_id)

    def attach(self, session: Destination, topic: AttachTopic) -> None:
        """Serves a gateway's subscriptions to a topic from its cursor on; tells it of one that is no more."""
        row = self.rows.get(topic_key(topic.topic_id))
        if row is None or row.epoch != topic.epoch:
            session.send(Ended(topic.topic_id, topic.epoch, "deleted"))
        elif session.open:
            route = self.routes.add(session, topic.topic_id, row.epoch, topic.cursor, topic.count)
            if not row.ephemeral and topic.cursor < row.seq:
                session.fall_behind(self, route)

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

    # -- who waits

    def being_made(self, topic_id: str) -> bool:
        """Says whether somebody waits for the topic to be made."""
        return bool(self._when_made.get(topic_id))

    def when_made(self, topic_id: str, session: Destination, callback: Callable[[bool], None]) -> None:
        """Calls back once the topic exists, or could not be made."""
        self._when_made.setdefault(topic_id, []).append((session, callback))

    def not_made(self, topic_id: str) -> None:
        """Tells who waits for a topic that its create record did not reach the log."""
        self._made(topic_id, there=False)

    def _made(self, topic_id: str, *, there: bool) -> None:
        for session, callback in self._when_made.pop(topic_id, ()):
            if session.open:
                callback(there)

    def left(self, session: Destination) -> None:
        """Forgets a closed session: its routes, and what it waited for."""
        self.routes.drop_gateway(session)
        self.arrivals.left(session)
        self.verdicts.forget(session)
        self.history.left(session)
        for topic_id, waiting in self._when_made.items():  # the topic itself is still on its way
            self._when_made[topic_id] = [(s, callback) for s, callback in waiting if s is not session]
