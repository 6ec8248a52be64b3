"""Answers what gateways and ingests ask about one shard; knows no link, only sessions that can be sent to."""

import heapq
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from dispatcher.shard import Session, ShardOwner
from headgate.core import link, rights
from headgate.core.apply import Code, Verdict
from headgate.core.errors import Refusal
from headgate.core.frames import volatile_frame
from headgate.core.ids import EPOCH_OFFSET_BITS, RESERVED_PREFIXES, check_topic_id, make_epoch, topic_key
from headgate.core.position import Position, place
from headgate.core.rights import Caller
from headgate.core.rows import Row
from headgate.core.topic_settings import effective
from headgate.runtime.ports import Clock

HISTORY_BYTES: Final = 8 * 1024 * 1024  # one answer of history; a page ends there, whatever its limit
MEMBERS_OF_A_NEW_TOPIC: Final = 1  # its owner; member records come with members

OFFSET_MASK: Final = (1 << EPOCH_OFFSET_BITS) - 1
logger = structlog.get_logger("dispatcher")

CreateTopic = Callable[[ShardOwner, str, Caller], None]


class Requests:
    """The requests of link version 1 on one shard. `create` appends a create record for a subscriber's topic;
    `linked` counts messages sent to gateways.
    """

    def __init__(self, owner: ShardOwner, clock: Clock, create: CreateTopic, linked: Callable[[int], None]) -> None:
        self._owner = owner
        self._clock = clock
        self._create = create
        self._linked = linked
        self._handlers: dict[type, Callable[..., None]] = {
            link.Attach: self._attach,
            link.Subscribe: self._subscribe,
            link.Leave: self._leave,
            link.Fetch: self._fetch,
            link.AskTopic: self._topic,
            link.AskTopics: self._topics,
            link.AskCount: self._counts,
            link.AskVerdict: self._verdict,
            link.AskHistory: self._history,
            link.Relay: self._relay,
        }

    def handle(self, session: Session, message: link.Message) -> None:
        """Answers one message, now or later. A refusal is an answer; it never raises."""
        if not session.open:
            return  # an answer that had to wait, for a link that did not
        try:
            self._handlers[type(message)](session, message)
        except Refusal as refusal:
            _refuse(session, message, refusal)
        except Exception:  # one bad question must not end the process that answers all others
            logger.exception("a request failed", shard=self._owner.number, kind=type(message).__name__)
            _refuse(session, message, Refusal("internal", "the owner failed at this request"))

    # -- topics

    def _row(self, topic_id: str) -> Row:
        row = self._owner.rows.get(topic_key(topic_id))
        if row is None:
            raise rights.unknown_topic(topic_id)
        return row

    def info(self, row: Row) -> link.TopicInfo:
        """Returns a topic as others see it."""
        return link.TopicInfo(
            topic_id=row.topic_id,
            epoch=row.epoch,
            seq=row.seq,
            name=row.name,
            permissions=row.permissions,
            owner_id=row.owner_id,
            created_at=row.created_at,
            subscriber_count=self._owner.routes.count(row.topic_id),
            member_count=MEMBERS_OF_A_NEW_TOPIC,
            mode="direct",
            settings=effective(row.settings),
        )

    def _topic(self, session: Session, ask: link.AskTopic) -> None:
        row = self._row(ask.topic_id)
        rights.require(True, ask.caller, row, "see")
        session.send(link.Topic(ask.req, self.info(row)))

    def _topics(self, session: Session, ask: link.AskTopics) -> None:
        seen = (
            row.topic_id
            for row in self._owner.rows.values()
            if row.topic_id > ask.after and row.topic_id.startswith(ask.prefix) and _shown(ask.caller, row)
        )
        page = heapq.nsmallest(ask.limit, seen)
        session.send(link.Topics(ask.req, [self.info(self._row(topic_id)) for topic_id in page]))

    def _counts(self, session: Session, ask: link.AskCount) -> None:
        session.send(link.Counts(ask.req, [self._owner.routes.count(t) for t in ask.topic_ids]))

    # -- subscriptions

    def _attach(self, session: Session, attach: link.Attach) -> None:
        owner = self._owner
        if attach.first:
            owner.routes.drop_gateway(session)
        for topic in attach.topics:
            made_at = topic.epoch & OFFSET_MASK
            if made_at >= owner.shard.next_offset:  # created where this owner has not read yet
                owner.verdicts.wait(made_at, lambda _, topic=topic: self._attach_topic(session, topic))  # type: ignore[misc]
            else:
                self._attach_topic(session, topic)
        if attach.last:
            session.send(link.Attached(attach.shard, owner.epoch))

    def _attach_topic(self, session: Session, topic: link.AttachTopic) -> None:
        owner = self._owner
        row = owner.rows.get(topic_key(topic.topic_id))
        if row is None or row.epoch != topic.epoch:
            session.send(link.Ended(topic.topic_id, topic.epoch, "deleted"))
        elif session.open:
            route = owner.routes.add(session, topic.topic_id, row.epoch, topic.cursor, topic.count)
            if not row.ephemeral and topic.cursor < row.seq:
                session.fall_behind(owner, route)

    def _leave(self, session: Session, leave: link.Leave) -> None:
        self._owner.routes.leave(session, leave.topic_id, leave.epoch, leave.count)

    def _subscribe(self, session: Session, ask: link.Subscribe) -> None:
        check_topic_id(ask.topic_id)
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None and ask.create and self._may_make(ask):
            self._subscribe_once_made(session, ask)
            return
        if row is None:
            raise rights.unknown_topic(ask.topic_id)
        rights.require(rights.may_subscribe(ask.caller, row), ask.caller, row, "subscribe to")
        if ask.position is None or row.ephemeral or self._can_place(row, ask.position):
            self._grant(session, ask, row)
        else:
            self._owner.when_complete(lambda: session.later(self._owner, ask))

    def _can_place(self, row: Row, position: Position) -> bool:
        """Says whether a position can be served now: while history is rebuilt, one that the index goes on from."""
        if self._owner.index.complete:
            return True
        form, epoch, seq = position
        return form == "seq" and epoch == row.epoch and 0 < seq <= row.seq and self._goes_on(row, seq)

    def _goes_on(self, row: Row, seq: int) -> bool:
        """Says whether the index has what follows `seq`, so that older history does not matter."""
        return seq == row.seq or self._owner.index.has(row.epoch, seq + 1)

    def _may_make(self, ask: link.Subscribe) -> bool:
        reserved = ask.topic_id.startswith(RESERVED_PREFIXES)  # answered like any topic that is not there
        return not reserved and rights.may_create(ask.caller, ask.topic_id)

    def _subscribe_once_made(self, session: Session, ask: link.Subscribe) -> None:
        again = link.Subscribe(ask.req, ask.topic_id, ask.caller, ask.position, False)

        def made(there: bool) -> None:
            if there:
                self.handle(session, again)
            else:
                session.send(link.Refused(ask.req, "not_ready", f"topic {ask.topic_id} could not be made now"))

        if self._owner.when_made(ask.topic_id, made):
            self._create(self._owner, ask.topic_id, ask.caller)

    def _grant(self, session: Session, ask: link.Subscribe, row: Row) -> None:
        """Adds the route and answers; everything applied so far is below the answer, everything later above it."""
        owner = self._owner
        owner.send_open()
        owner.routes.add(session, row.topic_id, row.epoch, row.seq)
        if row.ephemeral:
            resumed = False if ask.position is not None and ask.position[0] == "seq" else None
            reason = "ephemeral" if resumed is False else None
            first, cursor = 0, 0
        else:
            first = self.first_seq(row)
            if not self._owner.index.complete and ask.position is not None:
                first = min(first, ask.position[2] + 1)  # what is kept before it is not known yet
            placed = place(ask.position, row.epoch, first, row.seq, lambda ms: self._seq_at(row, ms, first))
            cursor, resumed, reason = placed
        session.send(
            link.Subscribed(
                req=ask.req,
                topic_id=row.topic_id,
                epoch=row.epoch,
                seq=row.seq,
                first_seq=first,
                cursor=cursor,
                count=owner.routes.count(row.topic_id),
                resumed=resumed,
                reason=reason,
                settings=effective(row.settings),
            )
        )

    def _fetch(self, session: Session, ask: link.Fetch) -> None:
        row = self._row(ask.topic_id)
        if row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        if not self._owner.index.complete and not self._goes_on(row, ask.after_seq):
            self._owner.when_complete(lambda: session.later(self._owner, ask))
            return
        first = self.first_seq(row) if self._owner.index.complete else ask.after_seq + 1
        begin = max(ask.after_seq + 1, first)
        count = min(ask.max_count, max(row.seq - begin + 1, 0))
        span = self._owner.index.span(row.epoch, begin, count, ask.max_bytes)
        session.send(
            link.Page(
                req=ask.req,
                topic_id=row.topic_id,
                epoch=row.epoch,
                first_seq=first,
                seq=span.seq,
                ts=span.ts,
                frames=span.frames,
            )
        )

    # -- history

    def first_seq(self, row: Row) -> int:
        """Returns the oldest seq a reader may get now: retention holds exactly for readers."""
        settings = effective(row.settings)
        first = self._owner.index.first_seq(row.epoch, row.seq)
        if settings["retention_messages"] is not None:
            first = max(first, row.seq - settings["retention_messages"] + 1)
        if settings["retention_ms"] is not None:
            since = self._seq_at(row, self._clock.wall_ms() - settings["retention_ms"], first)
            first = max(first, row.seq + 1 if since is None else since)
        return first

    def _seq_at(self, row: Row, ms: int, first: int) -> int | None:
        return self._owner.index.seq_at(row.epoch, ms, first, row.seq)

    def _history(self, session: Session, ask: link.AskHistory) -> None:
        row = self._row(ask.topic_id)
        rights.require(rights.may_subscribe(ask.caller, row), ask.caller, row, "read the history of")
        if row.ephemeral:
            raise Refusal("not_in_profile", f"topic {row.topic_id} is ephemeral: nothing of it is kept")
        first = self.first_seq(row)
        if self._owner.index.complete and 0 < ask.after_seq < first - 1:
            raise Refusal("gone", f"the oldest message kept is seq {first}; ask with after_seq=0", first_seq=first)
        low, count = self._range(row, ask, first)
        span = self._owner.index.span(row.epoch, low, count, HISTORY_BYTES) if count > 0 else None
        session.send(
            link.HistoryPage(
                req=ask.req,
                epoch=row.epoch,
                first_seq=first,
                last_seq=row.seq,
                complete=self._owner.index.complete,
                frames=span.frames if span else [],
            )
        )

    def _range(self, row: Row, ask: link.AskHistory, first: int) -> tuple[int, int]:
        """Returns the first seq and the number of messages of a page."""
        above = ask.before_seq if ask.before_seq >= 0 else row.seq + 1
        above = min(above, row.seq + 1)
        if ask.after_seq >= 0 or ask.since_ts >= 0:
            low = max(ask.after_seq + 1, first)
            if ask.since_ts >= 0:
                found = self._seq_at(row, ask.since_ts, first)
                low = max(low, row.seq + 1 if found is None else found)
            return low, min(ask.limit, above - low)
        low = max(above - ask.limit, first)
        return low, above - low

    # -- verdicts

    def _verdict(self, session: Session, ask: link.AskVerdict) -> None:
        def answer(verdicts: Sequence[Verdict]) -> None:
            session.send(link.Verdicts(ask.req, [self._wire(ask.offset, i, v) for i, v in enumerate(verdicts)]))

        kept = self._owner.verdicts.get(ask.offset)
        if kept is not None:
            answer(kept)
        elif ask.offset >= self._owner.shard.next_offset:
            self._owner.verdicts.wait(ask.offset, answer)
        else:
            left = self._what_is_left(ask.offset)
            if left[0].code is Code.UNKNOWN and not self._owner.index.complete:
                self._owner.when_complete(lambda: session.later(self._owner, ask))
            else:
                answer(left)

    def _wire(self, offset: int, item: int, verdict: Verdict) -> link.Verdict:
        return link.Verdict(int(verdict.code), verdict.seq, verdict.epoch)

    def _what_is_left(self, offset: int) -> list[Verdict]:
        """Answers for an offset older than the verdicts kept, from what the record left behind."""
        epoch = make_epoch(self._owner.shard.generation, offset)
        if any(row.epoch == epoch for row in self._owner.rows.values()):
            return [Verdict(Code.CREATED, 0, epoch)]
        found = self._owner.index.at_offset(offset)
        if not found:
            return [Verdict(Code.UNKNOWN)]
        verdicts = [Verdict(Code.UNKNOWN)] * (found[-1][0] + 1)
        for item, topic_epoch, seq in found:
            verdicts[item] = Verdict(Code.ACCEPTED, seq, topic_epoch)
        return verdicts

    # -- ephemeral

    def _relay(self, session: Session, ask: link.Relay) -> None:
        row = self._row(ask.topic_id)
        if row.epoch != ask.epoch or not row.ephemeral:
            raise rights.unknown_topic(ask.topic_id)
        now = self._clock.wall_ms()
        message = link.Volatile(row.topic_id, row.epoch, [now], [volatile_frame(row.topic_id, now, ask.tail)])
        for route in self._owner.routes.hosts(row.topic_id):
            if not route.gateway.congested:  # at most once: what a slow link misses is gone
                route.gateway.send(message)
                self._linked(1)
        session.send(link.Relayed(ask.req, self._owner.routes.count(row.topic_id)))


def _refuse(session: Session, message: link.Message, refusal: Refusal) -> None:
    req = getattr(message, "req", None)
    if req is not None:
        session.send(link.Refused(req, refusal.code, refusal.detail, refusal.extra))


def _shown(caller: Caller, row: Row) -> bool:
    return rights.may_see(caller, row) and rights.may_inspect(caller, row)
