"""How a subscribe becomes a grant or an error: cursors and topics are asked of their owners, or wait for one.

The pending subscribes decide (`headgate.core.fanout.pending`); here the owners are asked.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.inbound import Subscribe
from headgate.core.client.outbound import FrameId
from headgate.core.fanout import cursor_opening
from headgate.core.fanout.audience import Audience
from headgate.core.fanout.pending import PendingSubscribes, Unwanted
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.ports import GatewayMetrics, Moment, Upstream
from headgate.core.fanout.session import Session, TopicFeed
from headgate.core.fanout.subscription import SubscriptionState
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Refused, Subscribed
from headgate.core.wire.link_acks import CursorAnswer, ReleaseCursor


class SubscribeActions(NamedTuple):
    """What the hub does: `grant` makes a subscription, `refuse` answers a frame with an error.

    `overloaded` ends a session with 4503 and when to come again, `drop` lets go of one. `before_opening` sends what is
    known here of a cursor: of a user, device and topic. `moment` returns the time of the call.
    """

    grant: Callable[[PendingSubscribe, Subscribed], None]
    refuse: Callable[[Session, Refusal, FrameId, str | None], None]
    overloaded: Callable[[Session, int | None], None]
    drop: Callable[[Session], None]
    before_opening: Callable[[tuple[str, str, str]], None]
    moment: Callable[[], Moment]


class Subscribing:
    """The subscribes of one gateway on their way; `feeds` are the topics followed here."""

    def __init__(
        self,
        pending: PendingSubscribes,
        feeds: Mapping[str, TopicFeed],
        upstream: Upstream,
        metrics: GatewayMetrics,
        audience: Audience,
        do: SubscribeActions,
        *,
        auto_create: bool,
    ) -> None:
        self._pending = pending
        self._feeds = feeds
        self._upstream = upstream
        self._metrics = metrics
        self._audience = audience
        self._do = do
        self._auto_create = auto_create

    def subscribe(self, session: Session, wanted: Subscribe, frame_id: FrameId) -> None:
        """Asks for a topic, or later where many are asked for. Raises Refusal `already_subscribed`, `limit_reached`."""
        pending = self._pending.ask(session, wanted, frame_id, self._do.moment().now)
        if pending is not None:
            self.ask(pending)

    def proceed(self, session: Session) -> None:
        """Asks for the topics of a session that wait.

        None while the socket is full: a grant may bring a long `presence`.
        """
        self._proceed_query(session)
        self._ask_deferred(session)

    def _ask_deferred(self, session: Session) -> None:
        deferred = self._pending.deferred
        if not deferred.enter(session):
            return
        try:
            while not (session.closed or session.paused):
                pending = self._pending.next_deferred(session, self._do.moment().now)
                if pending is None:
                    return
                self.ask(pending)
        finally:
            deferred.leave(session)

    def _proceed_query(self, session: Session) -> None:
        """Asks for the topics of a query, some of them ahead, and takes the answers that waited for their turn."""
        turns = self._pending.turns
        if not turns.enter(session):
            return  # an owner in this process answers within `ask` and comes here again: only the first loop runs
        try:
            while not (session.closed or session.paused):
                if (due := turns.due(session)) is not None:
                    self._take_turn(*due)
                elif not self._ask_next(session):
                    return
        finally:
            turns.leave(session)

    def _take_turn(self, pending: PendingSubscribe, answer: Subscribed | Refused | None) -> None:
        if answer is None:
            self.ask(pending)
        else:
            self._take(pending, answer)

    def _ask_next(self, session: Session) -> bool:
        """Asks for the next topic of a query; false where none is to be asked for now."""
        following = self._pending.next(session, self._do.moment().now)
        if following is None:
            return False
        topic_id, outcome = following
        if isinstance(outcome, Refusal):
            self._do.refuse(session, outcome, None, topic_id[:128] or None)
        else:
            self.ask(outcome)
        return True

    def ask(self, pending: PendingSubscribe) -> None:
        """Asks for a subscribe: its cursor first, where it wants one, and before a lease whether it may subscribe."""
        if not pending.may_lease:
            self._ask_first(pending)
            return
        if pending.wants_cursor:
            self._open_cursor(pending)
            return
        feed = self._feeds.get(pending.topic_id)
        try:
            shard = self._upstream.shard_of(pending.topic_id) if feed is None else feed.shard
        except Refusal:
            self._pending.hold(pending)
            return
        pending.place(shard)
        build = partial(pending.request, create=self._auto_create, level=self._audience.presence.prepare(pending))
        self._upstream.request(shard, build, partial(self._answered, pending))

    def _ask_first(self, pending: PendingSubscribe) -> None:
        caller = pending.session.caller
        assert caller is not None
        cursor_opening.begin(pending, caller.user_id, self._do.moment().wall_ms)
        try:
            shard = self._upstream.shard_of(pending.topic_id)
        except Refusal:
            self._pending.hold(pending)
            return
        pending.place(shard)
        build = partial(cursor_opening.question_of_topic, pending)
        self._upstream.request(shard, build, partial(self._described, pending))

    def _described(self, pending: PendingSubscribe, answer: Answer) -> None:
        if pending.state is not SubscriptionState.ENDED:
            if isinstance(answer, Refused) and answer.code == "not_ready":
                self._pending.hold(pending)
            else:
                self._ask_if_allowed(pending, answer)
        self.proceed(pending.session)

    def _ask_if_allowed(self, pending: PendingSubscribe, answer: Answer) -> None:
        try:
            cursor_opening.check_lease(pending, answer, create=self._auto_create)
        except Refusal as refusal:
            self._pending.end(pending)
            self.deny(pending, refusal)
        else:
            pending.allow()
            self.ask(pending)

    def _open_cursor(self, pending: PendingSubscribe) -> None:
        caller = pending.session.caller
        assert caller is not None
        try:
            shard = self._upstream.shard_of_user(caller.user_id)
        except Refusal:
            self._pending.hold(pending)
            return
        pending.place(shard)
        self._do.before_opening((caller.user_id, pending.subscribe.device_id, pending.topic_id))
        build = partial(cursor_opening.question, pending, caller.user_id)
        self._upstream.request(shard, build, partial(self._opened, pending))

    def _opened(self, pending: PendingSubscribe, answer: Answer) -> None:
        outcome = self._pending.opened(pending, answer)
        if isinstance(outcome, CursorAnswer):
            cursor_opening.place(pending, outcome)
            self.ask(pending)
            return
        if outcome is not None:
            self.deny(pending, outcome)
        elif pending.state is SubscriptionState.ENDED:
            self._release(pending)
        self.proceed(pending.session)

    def _answered(self, pending: PendingSubscribe, answer: Answer) -> None:
        if not self._pending.turns.keeps(pending, answer):
            self._take(pending, answer)
            self.proceed(pending.session)

    def _take(self, pending: PendingSubscribe, answer: Answer) -> None:
        if self._audience.presence.gives_back(pending, answer):
            self.ask(pending)
            return
        outcome = self._pending.answered(pending, answer)
        if isinstance(outcome, Subscribed):
            self._granted(pending, cursor_opening.answer_of(pending, outcome))
        elif isinstance(outcome, Refusal):
            self.deny(pending, outcome)
        elif isinstance(outcome, Unwanted):
            self._pending.turns.give_back(pending, outcome.answer)
        if not isinstance(outcome, Subscribed):
            self._release(pending)

    def _granted(self, pending: PendingSubscribe, answer: Subscribed) -> None:
        if pending.subscribe.group != answer.group:
            self._pending.turns.give_back(pending, answer)
            self.deny(pending, Refusal("not_ready", "the owner of the topic is of a version without consumer groups"))
            return
        if pending.subscribe.ack and answer.settings.get("profile") == "ephemeral":
            self._pending.turns.give_back(pending, answer)
            self.deny(pending, cursor_opening.not_kept(pending.topic_id))
            self._release(pending)
            return
        self._do.grant(pending, answer)

    def _release(self, pending: PendingSubscribe) -> None:
        """Nothing came of it: another session may acknowledge for the device.

        One that has begun anew on this connection keeps the lease, which is of the connection.
        """
        lease = pending.lease
        if lease is not None and not self._pending.has_begun_anew(pending):
            release = ReleaseCursor(lease.user_id, lease.device_id, lease.topic_id, lease.connection_id)
            self._upstream.send(self._upstream.shard_of_user(lease.user_id), release)

    def deny(self, pending: PendingSubscribe, refusal: Refusal) -> None:
        """Answers a subscribe that came to nothing: an `error` frame, or the end of an SSE request."""
        session = pending.session
        if session.framing is WEBSOCKET:
            self._do.refuse(session, refusal, pending.frame_id, pending.topic_id)
            return
        self._metrics.refused(refusal.code, refusal.detail)
        if refusal.status in (429, 503):
            self._do.overloaded(session, refusal.retry_after_ms)
        else:
            self._do.drop(session)
            session.refuse(refusal)
