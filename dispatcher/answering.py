"""Answers what gateways and ingests ask about one shard; knows no link, only sessions that can be sent to."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from dispatcher.announcements import Announcements
from dispatcher.history import ANY_TOPIC, SeqRange
from dispatcher.reading import Reading
from dispatcher.shard import Destination, ShardOwner
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link, rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import ephemeral_frame
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, check_topic_id, make_epoch, topic_key
from headgate.core.wire.linkcodec import refused_with
from headgate.core.wire.position import Placed
from headgate.core.wire.rights import Caller
from headgate.core.wire.topic_settings import effective
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.ports import Clock

LOOKED_AT: Final = 1_000  # topics of a list that one slice looks at: most may be hidden from the caller
MEMBERS_OF_A_NEW_TOPIC: Final = 1  # its owner; member records come with members

RETRY_MS: Final = 1_000
OFFSET_MASK: Final = (1 << EPOCH_OFFSET_BITS) - 1
logger = structlog.get_logger("dispatcher")

CreateTopic = Callable[[ShardOwner, str, Caller], None]  # raises Refusal where the caller makes too many


class Answering:
    """The requests of link version 1 on one shard. `create` appends a create record for a subscriber's topic;
    `linked` counts messages sent to gateways.
    """

    def __init__(
        self,
        owner: ShardOwner,
        clock: Clock,
        create: CreateTopic,
        linked: Callable[[int], None],
        announcements: Announcements[Destination],
    ) -> None:
        self.announcements = announcements
        self._owner = owner
        self._clock = clock
        self._create = create
        self._linked = linked
        self._reading = Reading(owner, clock)
        self._handlers: dict[type, Callable[..., None]] = {
            link.Attach: self._attach,
            link.AskSubscribe: self._subscribe,
            link.Leave: self._leave,
            link.Fetch: self._fetch,
            link.Authorize: self._authorize,
            link.AskTopic: self._topic,
            link.AskTopics: self._topics,
            link.AskCount: self._counts,
            link.AskVerdict: self._verdict,
            link.AskHistory: self._history,
            link.Relay: self._relay,
        }

    def handle(self, session: Destination, message: link.Message) -> None:
        """Answers one message, now or later. A refusal is an answer; it never raises."""
        if not session.open:
            return  # an answer that had to wait, for a link that did not
        handler = self._handlers.get(type(message))
        if handler is None:
            _refuse(session, message, Refusal("bad_request", f"{type(message).__name__} is no request of a client"))
            return
        self._answer_with(handler, session, message)

    def _answer_with(self, handler: Callable[..., None], session: Destination, message: link.Message) -> None:
        try:
            handler(session, message)
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

    def _topic(self, session: Destination, ask: link.AskTopic) -> None:
        row = self._row(ask.topic_id)
        rights.require(True, ask.caller, row, "see")
        session.send(link.TopicAnswer(ask.req, self.info(row)))

    def _topics(self, session: Destination, ask: link.AskTopics) -> None:
        self._list(session, ask, ask.after, [])

    def _list(self, session: Destination, ask: link.AskTopics, after: str, page: list[link.TopicInfo]) -> None:
        """Looks at the next topics of a list; goes on in another slice where many are hidden from the caller."""
        for looked_at, topic_id in enumerate(self._owner.topics.above(after, ask.prefix)):
            if looked_at == LOOKED_AT and session.open:
                asyncio.get_running_loop().call_soon(self._list, session, ask, after, page)
                return
            row = self._row(topic_id)
            if _shown(ask.caller, row):
                page.append(self.info(row))
                if len(page) >= ask.limit:
                    break
            after = topic_id
        session.send(link.TopicsAnswer(ask.req, page))

    def _counts(self, session: Destination, ask: link.AskCount) -> None:
        if not self._subscribers_known(session, ask, 0):
            return
        session.send(link.Counts(ask.req, [self._owner.routes.count(t) for t in ask.topic_ids]))

    # -- subscriptions

    def _attach(self, session: Destination, attach: link.Attach) -> None:
        owner = self._owner
        if attach.first:
            owner.routes.drop_gateway(session)
            owner.arrivals.left(session)
        for topic in attach.topics:
            made_at = topic.epoch & OFFSET_MASK
            if made_at >= owner.shard.next_offset:  # created where this owner has not read yet
                owner.arrivals.expect(session, topic, made_at)
            else:
                owner.attach(session, topic)
        if attach.last:
            session.send(link.Attached(attach.shard, owner.epoch))
            self.announcements.heard(session)

    def _leave(self, session: Destination, leave: link.Leave) -> None:
        if not self._owner.arrivals.leave(session, leave.topic_id, leave.epoch, leave.count):
            self._owner.routes.leave(session, leave.topic_id, leave.epoch, leave.count)

    def _subscribe(self, session: Destination, ask: link.AskSubscribe, *, at_end: bool = False) -> None:
        check_topic_id(ask.topic_id)
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None and ask.create and rights.may_create(ask.caller, ask.topic_id):
            self._subscribe_once_made(session, ask)
            return
        if row is None:
            raise rights.unknown_topic(ask.topic_id)
        rights.require(rights.may_subscribe(ask.caller, row), ask.caller, row, "subscribe to")
        self._owner.send_open()
        if row.ephemeral:
            resumed = False if ask.position is not None and ask.position[0] == "seq" else None
            self._grant(session, ask, row, 0, Placed(0, resumed, "ephemeral" if resumed is False else None))
            return
        placed = self._reading.place(row, ask.position)
        if placed is None:
            self._later(session, ask, row)
        elif placed[1].reason == "ahead" and not at_end:
            self._subscribe_at_end(session, ask)
        else:
            self._grant(session, ask, row, *placed)

    def _subscribe_at_end(self, session: Destination, ask: link.AskSubscribe) -> None:
        """Places a position that is above the head again once all that the log holds now is applied."""

        def again(applied: bool) -> None:
            self._answer_with(partial(self._subscribe, at_end=True) if applied else _behind, session, ask)

        if not self._owner.log_end.wait(session, again):
            raise Refusal("not_ready", "too many wait for the end of this shard's log", retry_after_ms=RETRY_MS)

    def _later(self, session: Destination, ask: link.AskSubscribe | link.Fetch, row: Row) -> None:
        """Handles a request again once more of the topic's history is here."""
        if self._owner.history.crowded:
            raise Refusal("not_ready", "too many wait for this shard's history", retry_after_ms=RETRY_MS)
        self._owner.history.wait(row.epoch, session, lambda: session.later(self._owner, ask))

    def _authorize(self, session: Destination, ask: link.Authorize) -> None:
        row = self._row(ask.topic_id)
        if row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        rights.require(rights.may_subscribe(ask.caller, row), ask.caller, row, "subscribe to")
        session.send(link.Authorized(ask.req))

    def _subscribe_once_made(self, session: Destination, ask: link.AskSubscribe) -> None:
        again = link.AskSubscribe(ask.req, ask.topic_id, ask.caller, ask.position, False)

        def made(there: bool) -> None:
            if there:
                self.handle(session, again)
            else:
                session.send(link.Refused(ask.req, "not_ready", f"topic {ask.topic_id} could not be made now"))

        if not self._owner.being_made(ask.topic_id):
            self._create(self._owner, ask.topic_id, ask.caller)
        self._owner.when_made(ask.topic_id, session, made)

    def _grant(self, session: Destination, ask: link.AskSubscribe, row: Row, first: int, placed: Placed) -> None:
        """Adds the route and answers; everything applied so far is below the answer, everything later above it."""
        owner = self._owner
        owner.routes.add(session, row.topic_id, row.epoch, row.seq)
        session.send(
            link.Subscribed(
                req=ask.req,
                topic_id=row.topic_id,
                epoch=row.epoch,
                seq=row.seq,
                first_seq=first,
                cursor=placed.cursor,
                count=owner.routes.count(row.topic_id),
                resumed=placed.resumed,
                reason=placed.reason,
                settings=effective(row.settings),
            )
        )

    # -- history

    def _fetch(self, session: Destination, ask: link.Fetch) -> None:
        row = self._row(ask.topic_id)
        if row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        page = self._reading.page(row, ask)
        if page is None:
            self._later(session, ask, row)
        else:
            self._answer(session, ask, row, page)

    def _history(self, session: Destination, ask: link.AskHistory) -> None:
        row = self._row(ask.topic_id)
        rights.require(rights.may_subscribe(ask.caller, row), ask.caller, row, "read the history of")
        if row.ephemeral:
            raise Refusal("not_in_profile", f"topic {row.topic_id} is ephemeral: nothing of it is kept")
        self._answer(session, ask, row, self._reading.history(row, ask))

    def _answer(
        self,
        session: Destination,
        ask: link.Fetch | link.AskHistory,
        row: Row,
        page: link.Page | link.HistoryPage | SeqRange,
    ) -> None:
        """Sends a page, once its frames are here."""
        if not isinstance(page, SeqRange):
            session.send(page)
        elif self._owner.pages.crowded:
            raise Refusal("not_ready", "too many wait for old messages of this shard", retry_after_ms=RETRY_MS)
        else:
            self._owner.pages.want(row, page.absent, session, lambda: session.later(self._owner, ask))

    # -- verdicts

    def _verdict(self, session: Destination, ask: link.AskVerdict) -> None:
        owner = self._owner
        kept = owner.verdicts.get(ask.offset)
        if kept is not None:
            self._tell(session, ask, kept)
        elif ask.offset >= owner.shard.next_offset:
            if not owner.verdicts.wait(ask.offset, session, lambda verdicts: self._tell(session, ask, verdicts)):
                raise Refusal("not_ready", "too many publishes of this shard wait for their verdict")
        else:
            left = self._what_is_left(ask.offset)
            if left[0].code is Code.UNKNOWN and not owner.history.holds(ask.offset):
                owner.history.wait(ANY_TOPIC, session, lambda: session.later(owner, ask))
            else:
                self._tell(session, ask, left)

    def _tell(self, session: Destination, ask: link.AskVerdict, verdicts: Sequence[Verdict]) -> None:
        session.send(link.Verdicts(ask.req, [self._wire(ask.offset, i, v) for i, v in enumerate(verdicts)]))

    def _wire(self, offset: int, item: int, verdict: Verdict) -> link.Verdict:
        return link.Verdict(int(verdict.code), verdict.seq, verdict.epoch)

    def _what_is_left(self, offset: int) -> list[Verdict]:
        """Answers for an offset older than the verdicts kept, from what the record left behind."""
        epoch = make_epoch(self._owner.shard.generation, offset)
        if self._owner.topics.has_epoch(epoch):
            return [Verdict(Code.CREATED, 0, epoch)]
        found = self._owner.history.at_offset(offset)
        if not found:
            return [Verdict(Code.UNKNOWN)]
        verdicts = [Verdict(Code.UNKNOWN)] * (found[-1][0] + 1)
        for item, topic_epoch, seq in found:
            verdicts[item] = Verdict(Code.ACCEPTED, seq, topic_epoch)
        return verdicts

    # -- ephemeral

    def _relay(self, session: Destination, ask: link.Relay) -> None:
        row = self._row(ask.topic_id)
        if row.epoch != ask.epoch or not row.ephemeral:
            raise rights.unknown_topic(ask.topic_id)
        if not self._subscribers_known(session, ask, len(ask.tail)):
            return
        now = self._clock.wall_ms()
        message = link.EphemeralMessages(row.topic_id, row.epoch, [now], [ephemeral_frame(row.topic_id, now, ask.tail)])
        for route in self._owner.routes.hosts(row.topic_id):
            if not route.gateway.congested:  # at most once: what a slow link misses is gone
                route.gateway.send(message)
                self._linked(1)
        session.send(link.Relayed(ask.req, self._owner.routes.count(row.topic_id)))

    def _subscribers_known(self, session: Destination, ask: link.Relay | link.AskCount, size: int) -> bool:
        """Says whether every gateway has announced its subscriptions; if not, the question is answered once they have.

        Raises Refusal when too many wait.
        """
        if self.announcements.complete:
            return True
        if not self.announcements.hold(lambda: self.handle(session, ask), size):
            raise Refusal("not_ready", "the gateways have not announced their subscriptions yet")
        return False


def _behind(session: Destination, ask: link.AskSubscribe) -> None:
    raise Refusal("not_ready", "this shard is behind the end of its log", retry_after_ms=RETRY_MS)


def _refuse(session: Destination, message: link.Message, refusal: Refusal) -> None:
    req = getattr(message, "req", None)
    if req is not None:
        session.send(refused_with(req, refusal))


def _shown(caller: Caller, row: Row) -> bool:
    return rights.may_see(caller, row) and rights.may_inspect(caller, row)
