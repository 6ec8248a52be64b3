"""One owned shard: reads its log, applies the records, and pushes messages to the gateways that host their topics."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from dispatcher.amendments import Amendments
from dispatcher.arrivals import Arrivals
from dispatcher.counted_messages import CountedMessages
from dispatcher.dead_letters import DeadLetters
from dispatcher.digest_comparison import DigestComparison
from dispatcher.duplicate_seqs import with_seqs
from dispatcher.fences import Fences
from dispatcher.history import History
from dispatcher.letter_checks import LetterChecks
from dispatcher.letter_log import LetterLog
from dispatcher.log_end import LogEnd
from dispatcher.log_pages import LogPages
from dispatcher.node import Node
from dispatcher.outputs import Outputs
from dispatcher.owner_events import OwnerEvents
from dispatcher.pointers import Pointers
from dispatcher.record_traces import RecordTraces
from dispatcher.recovery import RecoveredShard
from dispatcher.shard_time import ShardTime
from dispatcher.topic_creations import PendingTopics
from dispatcher.topic_heats import TopicHeats
from dispatcher.topic_queues import TopicQueues
from dispatcher.topic_tallies import TopicTallies
from dispatcher.user_inbox import UserInbox
from headgate.core.delivery.dead_letter_record import DeadLetter
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.inbox.leases import Leases
from headgate.core.sequencer.apply import Applied, apply_many
from headgate.core.sequencer.effects import Deliver, Effect, MessageChanged, TopicCreated, TopicDeleted, Unusable
from headgate.core.sequencer.heat import Heat, Switch
from headgate.core.sequencer.marks import Mark
from headgate.core.sequencer.recent_verdicts import RecentVerdicts
from headgate.core.sequencer.routes import Route, Routes
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.snapshot_writer import MemberKey, MessageKey
from headgate.core.sequencer.topic_changes import MemberChanged, TopicUpdated
from headgate.core.sequencer.topic_rates import TopicRates
from headgate.core.wire.control import MEMBERS_LOGIC, PROBE_KEY
from headgate.core.wire.event_names import EventName
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link import AttachTopic, Ended, Message
from headgate.core.wire.message_changes import ReactToMessage, RedactMessage
from headgate.core.wire.records import Batch, LogName, Record, last_record_of, slices
from headgate.core.wire.verdict import Code
from headgate.runtime.ports import LogUnavailable, ignore

logger = structlog.get_logger("dispatcher")

READ_RECORDS: Final = 2_000
READ_S: Final = 1.0
CATCHING_UP_READ_S: Final = 0.05  # where the snapshot reaches the log's end, no record comes that would show it
LINK_BYTES: Final = 8 * 1024 * 1024  # a link with more queued gets no live messages; its routes fall behind
RETRY_S: Final = 0.5


class TopicListener(Protocol):
    """Is told which topics changed; with `user_id` only that user's membership did."""

    def __call__(self, topic_id: str, user_id: str = "") -> None: ...


class Destination(Protocol):
    """The far end of a link, as a shard needs it."""

    open: bool  # False once the link is closed: then nothing may be kept for it
    version: int  # of the link

    @property
    def name(self) -> str:
        """The node at the far end."""

    def send(self, message: Message) -> None:
        """Queues a message."""

    @property
    def congested(self) -> bool:
        """Whether more than LINK_BYTES are queued."""

    @property
    def backlog(self) -> Mapping[str, int]:
        """How many messages of each topic wait on the link, where many do."""

    def later(self, answer: Callable[[], None]) -> bool:
        """Has `answer` called when the link has room. Returns False when too many wait."""

    def fall_behind(self, owner: "ShardOwner", route: "Route[Destination]") -> None:
        """Has the route served from history until it is in step again."""


class ShardOwner:
    """The state of one owned shard, and all that is done with it. It is constructed from a recovered shard.

    `follow_log` is its task; requests are handled between its steps, on the same event loop. `closed` is True once the
    shard is released: then nothing is answered from it.
    """

    # Of consumer groups: records were applied, and a dead letter is replayed.
    on_applied: Callable[[Sequence[Record]], None] = staticmethod(lambda records: None)
    on_group_replay: Callable[[DeadLetter], None] = staticmethod(ignore)

    def __init__(
        self, found: RecoveredShard, epoch: int, node: Node, topic_changed: TopicListener, mark: Mark | None
    ) -> None:
        """`topic_changed` is told of changed topics and memberships, `mark` is another node's newest digest."""
        log, number = node.log, found.number
        self.number = number
        self.epoch = epoch
        self.shard = found.shard
        self.rows = found.rows
        self.topics = found.topics
        self.writer = found.writer
        self.snapshot_offset = max(found.writer.offset, 0)  # messages below it may be dropped
        self.inbox_snapshot_offset = max(found.writer.inbox_offset, 0)  # the same for the inbox log
        self.routes: Routes[Destination] = Routes()
        self._traces: RecordTraces[Destination] = RecordTraces(node.tracing, self.routes, number)
        self.fences = Fences(self.routes, node.options.usual)
        self.events = DeliveryEvents(node.shell.metrics.lifecycle_events)
        self.events.listen(node.event_listener)
        self.verdicts = RecentVerdicts()
        self.dead_letters = DeadLetters(log, number)
        self.outputs = Outputs(log, number, found.config.shards)
        self.pointers = Pointers(
            *(log, number, found.config.shards), found.rows, found.shard.members, node.shell.metrics.pointers
        )
        self.history = History(found.first, found.shard.next_offset, node.options.history)
        self.amendments = Amendments(self.routes, self.history)
        self.pages = LogPages(log, number, self.history, node.options.history.read_bytes)
        self.log_end = LogEnd(log, number, found.end)
        self.pending_topics = PendingTopics()
        self.arrivals: Arrivals[Destination] = Arrivals()
        self.digests = DigestComparison(number, found.shard.next_offset, node.shell.metrics)
        self.topic_rates = TopicRates(found.rows, node.options.publish_per_topic_per_s)
        self.queues: TopicQueues[Destination] = TopicQueues(found.rows, self.routes)
        self.owner_events = OwnerEvents(number, self.events, self.routes, self.queues.depth)
        self.heats = TopicHeats(found.rows, found.shard, self.routes, node, self._switched)
        self.tallies = TopicTallies(found.rows, found.writer.touch, node.options.top, node.shell.clock.wall_ms)
        self.counted = CountedMessages(node.shell.clock.now)
        self.caught_up = asyncio.Event()  # all that was in the log at the recovery is applied
        self.closed = False
        self._log, self._lease, self._shell = log, node.lease, node.shell
        self._topic_changed = topic_changed
        self._end, self._logic = found.end, found.shard.logic
        self.time = ShardTime(log, found.shard.log_ms, self.caught_up, node.shell.clock)
        self.inbox = UserInbox(log, number, found.users, found.writer, self.caught_up, self.time, self._shell.metrics)
        self.leases: Leases[Destination] = Leases()
        self.letters = LetterLog(
            *(log, number, found.letters, found.writer, self.caught_up),
            LetterChecks(found.shard, found.topics, self.history),
            self.time,
            node.shell,
            self._letter_added,
        )
        self.on_attach: Callable[[Destination, str], None] = lambda peer, topic_id: None
        if mark is not None:
            self.digests.heard(mark)

    # -- the log

    async def follow_log(self) -> None:
        """Applies the log's records as they come, until cancelled. Raises what parks the shard."""
        reader = await self._log.reader(LogName.MESSAGES, self.number, self.shard.next_offset)
        try:
            while True:
                try:
                    wait_s = READ_S if self.caught_up.is_set() else CATCHING_UP_READ_S
                    batch = await reader.read(READ_RECORDS, wait_s)
                except LogUnavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._take_batch(batch)
        finally:
            await reader.close()

    async def _take_batch(self, batch: Batch) -> None:
        self.log_end.seen(batch.end)
        for records in slices(batch.records):
            await self._lease.wait()
            self.take(records)
            await asyncio.sleep(0)
            await self.dead_letters.room()
            await self.outputs.room()
            await self.pointers.room()
            while self.history.overfull:  # noqa: ASYNC110 - the file takes a batch each turn
                await asyncio.sleep(0)
        if batch.next_offset > self.shard.next_offset:  # over transaction markers too
            self.shard.next_offset = batch.next_offset
            self.history.advance(batch.next_offset, None)
        self.log_end.applied(batch.next_offset)
        if not self.caught_up.is_set() and self._reaches_end(batch):
            self.caught_up.set()

    def _reaches_end(self, batch: Batch) -> bool:
        """Returns whether all that was in the log at the recovery is applied, or waits behind a foreign transaction.

        A log that is only silent is not at its end: a shard that went live then would call good positions `ahead`.
        """
        stable = batch.end if batch.stable is None else batch.stable
        return self.shard.config is not None and batch.next_offset >= min(self._end, stable)

    # -- records

    def take(self, records: Sequence[Record]) -> None:
        """Applies records and sends the results: first the messages, then the verdicts that are waited for."""
        counts: dict[int, int] = {}
        watched = self.events.on
        for record, applied in apply_many(self.shard, self.rows, records):
            self._take_one(record, applied)
            if record.trace is not None:
                self._traces.applied(record, applied)
            if watched:
                self.owner_events.enqueued(applied.effects)
            if record.offset >= self.digests.marks.due:
                self.digests.reached(self.shard.next_offset, self.shard.digest.value)
            for verdict in applied.verdicts:
                counts[verdict.code] = counts.get(verdict.code, 0) + 1
        if records:
            last = last_record_of(records[-1])
            own = (last if r is records[-1] else last_record_of(r) for r in reversed(records) if r.key != PROBE_KEY)
            self.shard.last = next(own, self.shard.last)  # probes are all alike
            self.history.advance(self.shard.next_offset, last)
            self.topic_rates.read(records[-1].ts, self._shell.clock.now())
            self.time.read(records[-1].ts, len(records))
        self._note_logic()
        self.send_open()
        self.verdicts.release()
        self.on_applied(records)
        for peer, topic in self.arrivals.due(self.shard.next_offset):
            self.attach(peer, topic)
        self._count(counts)

    def _count(self, verdicts: dict[int, int]) -> None:
        for code, count in verdicts.items():
            self._shell.metrics.sequenced(Code(code).name.lower(), count)
            if code in (Code.ACCEPTED, Code.CHANGED):
                self.events.count(EventName.MESSAGE_ENQUEUED, count)

    def _note_logic(self) -> None:
        """While members meant nothing yet nobody wrote the creators down."""
        if self._logic < MEMBERS_LOGIC <= self.shard.logic:
            self.outputs.known(self.rows)
        self._logic = self.shard.logic

    def _take_one(self, record: Record, applied: Applied) -> None:
        if applied.effects:
            self.writer.touch(record.key or b"")
            if type(applied.effects[0]) is Deliver:  # then all are
                self.topic_rates.count(record, len(applied.effects))
                self.tallies.tops.published(applied.effects[0].topic_id, len(applied.effects), record.ts)
                self.pointers.moved(record.key or b"", record.ts)
        for effect in applied.effects:
            if type(effect) is Deliver:
                if self.counted:
                    gateways = [route.gateway for route in self.routes.hosts(effect.topic_id)]
                    self.counted.pushed(effect.epoch, effect.id, effect.seq, gateways)
                self.routes.push(effect)
                self.history.add(record.offset, effect)
            elif isinstance(effect, MessageChanged):
                self._take_change(record, effect)
            else:
                self._take_rare(record, effect)
        self.verdicts.put(record.offset, with_seqs(self.history, record, applied.verdicts))

    def _take_rare(self, record: Record, effect: Effect) -> None:
        if isinstance(effect, Unusable):
            self.dead_letters.add(record, effect)
            self._shell.metrics.dead_letter(effect.reason)
            self.owner_events.unusable(record, effect)
        elif isinstance(effect, TopicCreated):
            self._take_created(record.key or b"", effect.row)
        elif isinstance(effect, TopicDeleted):
            self.topics.remove(effect.topic_id, effect.epoch)
            self.letters.deleted(effect.topic_id, effect.epoch)
            self.topic_rates.deleted(effect.topic_id)
            self.tallies.tops.deleted(effect.topic_id)
            self.send_open()
            for peer in self.routes.drop_topic(effect.topic_id):
                peer.send(Ended(effect.topic_id, effect.epoch, "deleted"))
            self.history.forget(record.offset, effect.epoch)
            self.pointers.deleted(record.key or b"", effect)
            self.heats.deleted(effect.topic_id)
            self._topic_changed(effect.topic_id)
        elif isinstance(effect, MemberChanged):
            self._take_member(record, effect)
        elif isinstance(effect, TopicUpdated):
            self._topic_changed(effect.row.topic_id)
            self.owner_events.updated(record, effect)
            self.topic_rates.updated(effect.row.topic_id)
            self.send_open()  # what came before the change goes out before it
            self.fences.update(effect.row)
            if effect.fence:
                self.fences.raise_for_all(effect.row)
            self.heats.changed(effect.row)

    def _letter_added(self, letter: DeadLetter, is_new: bool) -> None:
        self.tallies.dead_lettered(letter.topic, letter.epoch)
        if is_new:
            self._shell.metrics.dead_letter(letter.reason)
            self.owner_events.given_up(letter)

    def _take_change(self, record: Record, effect: MessageChanged) -> None:
        if not isinstance(effect.change, ReactToMessage):
            self.writer.touch(MessageKey(record.key or b"", effect.change.target_seq))
        self.history.add(record.offset, effect.event, effect.change)
        if isinstance(effect.change, RedactMessage):
            self.letters.redacted(effect.event, effect.change.target_seq)
        self.amendments.add(effect)
        self.routes.push(effect.event)
        self.pointers.moved(record.key or b"", record.ts)

    def _take_created(self, key: bytes, row: Row) -> None:
        self.topics.add(row.topic_id, row.epoch)
        self._topic_changed(row.topic_id)
        self.pending_topics.decided(row.topic_id, exists=True)
        members = list(self.shard.members.get(key, ()))  # of a direct topic
        for user_id, _ in members:
            self.writer.touch(MemberKey(key, user_id))
        self.outputs.created(row, members or [(row.owner_id, self.shard.creator_of(row))])
        self.heats.changed(row)

    def _take_member(self, record: Record, effect: MemberChanged) -> None:
        key = record.key or b""
        self.writer.touch(MemberKey(key, effect.user_id))
        self.writer.touch(MemberKey(key, self.rows[key].owner_id))  # the first change makes the creator an entry too
        self._topic_changed(effect.topic_id, effect.user_id)
        self.outputs.changed(record, effect)
        self.pointers.member_changed(key, effect)
        if effect.fence:
            self.send_open()  # what came before the fence goes out before it
            self.fences.raise_for_user(effect)
        self.heats.changed(self.rows[key])

    def attach(self, peer: Destination, topic: AttachTopic) -> None:
        """Serves a gateway's subscriptions to a topic from its cursor on; ends them where the topic does not exist.

        A gateway that does not know the topic's newest fence is sent it before anything else of the topic.
        """
        row = self.rows.get(topic_key(topic.topic_id))
        if row is None or row.epoch != topic.epoch:
            peer.send(Ended(topic.topic_id, topic.epoch, "deleted"))
        elif peer.open and self.fences.admits(peer, topic, row):
            route = self.routes.add(peer, topic.topic_id, row.epoch, topic.cursor, topic.count)
            self.heats.attached(peer, row)
            self.heats.changed(row)
            if not row.ephemeral and topic.cursor < row.seq:
                peer.fall_behind(self, route)
            self.on_attach(peer, topic.topic_id)

    def _switched(self, row: Row, switch: Switch) -> None:
        """A topic is delivered in another way from here on."""
        key = topic_key(row.topic_id)
        self.writer.touch(key)
        self.send_open()  # what came before the switch goes out before it
        self.heats.tell(row)
        if switch.is_of_mode:
            self.pointers.switched(key, switch.new is Heat.INBOX)
            self.owner_events.switched(row, switch, self._shell.clock.wall_ms())
            self._topic_changed(row.topic_id)

    def send_open(self) -> None:
        """Sends the open batches, after what changed in them; a congested link's routes fall behind instead."""
        self.amendments.send()
        for peer, messages in self.routes.take():
            if peer.congested:
                route = self.routes.get(peer, messages.topic_id)
                if route is not None:
                    route.sent = messages.seq - 1
                    peer.fall_behind(self, route)
            else:
                peer.send(messages)
                self._shell.metrics.link_messages("out", len(messages.frames))

    # -- ends

    def left(self, peer: Destination) -> None:
        """Forgets a closed link: its routes, and what it waited for."""
        self.routes.drop_gateway(peer)
        self.heats.lost_gateway()
        self.arrivals.left(peer)
        self.verdicts.forget(peer)
        self.history.left(peer)
        self.pending_topics.left(peer)
        self.counted.left(peer)
        self.queues.left(peer)

    def close(self) -> None:
        """The shard is released: nothing more is answered from here."""
        self.closed = True
        self.heats.close()
        self.inbox.close()
