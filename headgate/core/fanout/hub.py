"""The gateway's engine: who follows what, and what the owners sent; everything that happens is done from here.

Messages come in by `on_push` and wait in their feed; the first of a loop turn asks the shell for one `flush`. The parts
(catch-up, pending subscribes, gap repair, renewals, deadlines) decide and return what to do; the hub does it.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.fanout import grants
from headgate.core.fanout.catchup import CatchUp, Due
from headgate.core.fanout.connections import Connections
from headgate.core.fanout.deadlines import Deadlines
from headgate.core.fanout.feed import attach, page_request
from headgate.core.fanout.flush import Flush, flushed
from headgate.core.fanout.gap_repair import GapRepair
from headgate.core.fanout.pending import Denied, Granted, PendingSubscribe, PendingSubscribes, Unwanted
from headgate.core.fanout.ports import GatewayMetrics, Moment, Upstream
from headgate.core.fanout.renewals import Renewal, Renewals
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Ended, EphemeralMessages, Leave, Message, Messages, Subscribed
from headgate.core.wire.rights import Identity

_EVERY_S: Final = 1.0  # how often parked sessions and held subscribes are looked at


class Hub:
    """All feeds and sessions of one gateway.

    `schedule` asks the shell to call `flush` at the end of the loop turn. `moment` is the time of the call, where a
    method takes it. An owner's message carries no time: it is judged by the newest that the hub was given.
    """

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        metrics: GatewayMetrics,
        schedule: Callable[[], None],
        moment: Moment,
        *,
        auto_create: bool = False,
    ) -> None:
        self.limits = limits
        self.upstream = upstream
        self.metrics = metrics
        self.auto_create = auto_create
        self.feeds: dict[str, TopicFeed] = {}
        self.subscription_count = 0
        self.catchup = CatchUp(limits, upstream, metrics)
        self.pending = PendingSubscribes(limits)
        self.deadlines = Deadlines(limits, self.catchup, moment.now)
        self.renewals = Renewals()
        self._gaps = GapRepair(upstream.linked)
        self._flush = Flush(limits, metrics, self.catchup, schedule)
        self.connections = Connections(limits.connections_per_user)
        self._moment = moment
        self._looked_at = moment.now

    @property
    def session_count(self) -> int:
        """Connections that were admitted or wait for their `auth` frame."""
        return len(self.connections)

    @property
    def sessions(self) -> list[Session]:
        """All of them."""
        return self.connections.all()

    # From the link

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """Takes a message that an owner sent unasked; see `headgate.runtime.links.port.DirectoryUser`."""
        if isinstance(message, Messages | EphemeralMessages):
            self.metrics.link_messages("in", len(message.frames))
            feed = self._feed_of(message.topic_id, message.epoch)
            if feed is not None:
                seq = message.seq if isinstance(message, Messages) else feed.head + 1
                self._received(feed, seq, message.ts, message.frames)
        elif isinstance(message, Ended):
            feed = self.feeds.get(message.topic_id)
            if feed is not None and feed.epoch <= message.epoch:
                self._end_feed(feed, message.reason)

    def on_owner(self, shard: int, up: bool) -> None:
        """Announces the hosted topics of a shard to its new owner, and asks again what was not answered."""
        if not up:
            return
        hosted = [feed for feed in self.feeds.values() if feed.shard == shard]
        for announcement in attach(shard, hosted):
            self.upstream.send(shard, announcement)
        self._resend(shard)
        for feed in hosted:
            for subscription in list(feed.behind):
                self._pump(subscription.session)

    def _received(self, feed: TopicFeed, seq: int, ts: list[int], frames: list[bytes]) -> None:
        if not feed.append(seq, ts, frames):
            self._repair(feed)
        if feed.pending:
            self._flush.add(feed)

    def _feed_of(self, topic_id: str, epoch: int) -> TopicFeed | None:
        feed = self.feeds.get(topic_id)
        if feed is None or feed.epoch == epoch:
            return feed
        if feed.epoch < epoch:
            self._end_feed(feed, "deleted")  # the topic was recreated, and its Ended message was lost
        return None

    def _repair(self, feed: TopicFeed) -> None:
        if self._gaps.ask(feed):
            build = partial(page_request, feed, feed.head, self.limits)
            self.upstream.request(feed.shard, build, partial(self._repaired, feed))

    def _repaired(self, feed: TopicFeed, answer: Answer) -> None:
        repair = self._gaps.answered(feed, answer)
        if repair is None:
            return
        before = feed.head
        if repair.lost_below is not None:
            self._lose(feed, repair.lost_below)
        if repair.page.frames:
            self._received(feed, repair.page.seq, repair.page.ts, repair.page.frames)
        if feed.head > before and self._gaps.moved(feed):
            self._repair(feed)

    def _lose(self, feed: TopicFeed, seq: int) -> None:
        """Tells the subscribers in step that everything below `seq` will not come, and continues there."""
        self._pump_all(self._flush.write_out(feed, self._moment.wall_ms))
        self._flush.forget(feed)
        self.catchup.tell_lost(feed, seq)
        self._pump_all([flushed(feed)])

    # To the sockets

    def flush(self, moment: Moment) -> None:
        """Writes everything pending; the shell calls it when it was asked to."""
        self._moment = moment
        with closing(self._flush.run(moment.wall_ms)) as rounds:
            self._pump_all(rounds)

    def resume(self, session: Session, moment: Moment) -> None:
        """The socket takes bytes again."""
        self._moment = moment
        session.resume()
        self._pump(session)

    def _pump_all(self, rounds: Iterable[list[Session]]) -> None:
        for sessions in rounds:
            for session in sessions:
                self._pump(session)

    def _pump(self, session: Session) -> None:
        pumped = self.catchup.pump(session, self._moment.wall_ms)
        for subscription in pumped.fetches:
            feed = subscription.feed
            build = partial(page_request, feed, subscription.cursor, self.limits)
            self.upstream.request(feed.shard, build, partial(self._page, subscription))
        if pumped.too_slow:
            self.disconnect(session, 4508)

    def _page(self, subscription: Subscription, answer: Answer) -> None:
        if self.catchup.page(subscription, answer, self._moment.wall_ms):
            self._pump(subscription.session)

    # Sessions

    def open(self, session: Session) -> None:
        """Takes a connection; its identity may come later."""
        self.connections.open(session)
        self.deadlines.watch(session)

    def admit(self, session: Session, identity: Identity, moment: Moment, frame_id: FrameId = None) -> bool:
        """Gives a session its identity and sends `welcome`; false when its user has too many connections."""
        caller = identity.caller
        if not self.connections.admit(caller):
            self.metrics.refused("limit_reached", f"{caller.user_id} has too many connections")
            self.disconnect(session, 4529, retry_after_ms=5_000)
            return False
        session.identify(identity, moment)
        session.greet(moment.wall_ms, self.limits, frame_id)
        return True

    def renew(self, session: Session) -> None:
        """Asks the owners whether the session may still follow its topics."""
        for subscription in list(session.subscriptions.values()):
            self._authorize(subscription)

    def unsubscribe(self, subscription: Subscription, reason: str, frame_id: FrameId = None) -> None:
        """Ends one subscription and tells the client; an SSE stream has no other and ends."""
        session, feed = subscription.session, subscription.feed
        self._detach(subscription)
        session.emit(outbound.unsubscribed(feed.topic_id, reason, frame_id))
        if session.framing is not WEBSOCKET:
            self.drop(session)
            session.finish(1000, reason)

    def disconnect(self, session: Session, code: int, *, retry_after_ms: int | None = None) -> None:
        """Ends a session with a `disconnect` frame and a close code."""
        self.drop(session)
        session.leave(code, retry_after_ms)

    def lost(self, session: Session) -> None:
        """The connection is gone."""
        session.lose()
        self.drop(session)

    def drop(self, session: Session) -> None:
        """Lets go of a session: its connection is gone, or is about to be."""
        if not self.connections.close(session):
            return
        self.pending.drop(session)
        for subscription in list(session.subscriptions.values()):
            self._detach(subscription)
        self.catchup.drop(session)

    def refuse(self, session: Session, refusal: Refusal, frame_id: FrameId, topic_id: str | None) -> None:
        """Answers a frame with `error`; the connection stays."""
        self.metrics.refused(refusal.code, refusal.detail)
        session.emit(outbound.error(refusal, frame_id, topic_id))

    def _end_feed(self, feed: TopicFeed, reason: str) -> None:
        """The topic is gone, and its owner has no route to forget: every subscription ends."""
        self._pump_all(self._flush.write_out(feed, self._moment.wall_ms))
        self._let_go(feed)
        for subscription in feed.subscriptions():
            self.unsubscribe(subscription, reason)

    def _detach(self, subscription: Subscription) -> None:
        feed = subscription.feed
        self.catchup.forget(subscription)
        subscription.end()
        self.subscription_count -= 1
        if self.feeds.get(feed.topic_id) is not feed:
            return  # ended by the owner, who has forgotten it
        self.upstream.send(feed.shard, Leave(feed.topic_id, feed.epoch))
        if feed.count == 0:
            self._let_go(feed)

    def _let_go(self, feed: TopicFeed) -> None:
        self.feeds.pop(feed.topic_id, None)
        self._flush.forget(feed)
        self._gaps.forget(feed)

    # Subscribing

    def begin(self, session: Session, moment: Moment) -> None:
        """Asks for the topics of an admitted session's query, in order."""
        self._moment = moment
        self.pending.begin(session, moment.now)
        self.proceed(session)

    def subscribe(self, session: Session, wanted: Subscribe, moment: Moment, frame_id: FrameId = None) -> None:
        """Asks for a topic. Raises Refusal `already_subscribed` or `limit_reached`."""
        self._moment = moment
        self._ask(self.pending.ask(session, wanted, frame_id, moment.now))

    def proceed(self, session: Session) -> None:
        """Asks for the topics of a query one by one: each is answered, held, or late, before the next is asked for.

        An owner in this process answers within `_ask` and comes here again: `enter` lets only the first loop run.
        """
        if not self.pending.enter(session):
            return
        try:
            while not session.closed:
                following = self.pending.next(session, self._moment.now)
                if following is None:
                    return
                topic_id, outcome = following
                if isinstance(outcome, Refusal):
                    self.refuse(session, outcome, None, topic_id[:128] or None)
                else:
                    self._ask(outcome)
        finally:
            self.pending.leave(session)

    def _ask(self, pending: PendingSubscribe) -> None:
        if not pending.asked:
            return  # it ended while others were asked for
        try:
            shard = self.upstream.shard_of(pending.topic_id)
        except Refusal:
            self.pending.hold(pending)
            self.proceed(pending.session)
            return
        pending.place(shard)
        build = partial(pending.request, create=self.auto_create)
        self.upstream.request(shard, build, partial(self._answered, pending))

    def _answered(self, pending: PendingSubscribe, answer: Answer) -> None:
        outcome = self.pending.answered(pending, answer)
        if isinstance(outcome, Granted):
            self._grant(pending, outcome.answer)
        elif isinstance(outcome, Denied):
            self._deny(pending, outcome.refusal)
        elif isinstance(outcome, Unwanted) and pending.shard is not None:
            self.upstream.send(pending.shard, Leave(pending.topic_id, outcome.answer.epoch))
        self.proceed(pending.session)

    def _grant(self, pending: PendingSubscribe, answer: Subscribed) -> None:
        """Makes a subscription of the owner's answer."""
        session = pending.session
        feed = self.feeds.get(pending.topic_id)
        if feed is not None and feed.epoch != answer.epoch:
            self._end_feed(feed, "deleted")
            feed = None
        if feed is None:
            feed = self.feeds[pending.topic_id] = grants.new_feed(pending, answer)
        subscription = session.follow(feed, *grants.begin_of(pending, answer, feed))
        self.subscription_count += 1
        self.catchup.admit(subscription)
        session.emit(*grants.first_frames(pending, answer, self.metrics))
        if feed.durable and feed.misses(answer.seq):
            self._repair(feed)
        if pending.caller is not session.caller:  # refreshed while the owner decided on the old rights
            self._authorize(subscription)
        self._pump(session)

    def _deny(self, pending: PendingSubscribe, refusal: Refusal) -> None:
        """Answers a subscribe that came to nothing: an `error` frame, or the end of an SSE request."""
        session = pending.session
        if session.framing is WEBSOCKET:
            self.refuse(session, refusal, pending.frame_id, pending.topic_id)
            return
        self.metrics.refused(refusal.code, refusal.detail)
        if refusal.status in (429, 503):
            self.disconnect(session, 4503)
        else:
            self.drop(session)
            session.refuse(refusal)

    def _resend(self, shard: int | None) -> None:
        """Asks again what waits for an owner of the shard."""
        for pending in self.pending.resend(shard):
            self._ask(pending)
        for subscription in self.renewals.resend(shard):
            self._authorize(subscription)

    def _authorize(self, subscription: Subscription) -> None:
        build = self.renewals.ask(subscription)
        if build is not None:
            self.upstream.request(subscription.feed.shard, build, partial(self._authorized, subscription))

    def _authorized(self, subscription: Subscription, answer: Answer) -> None:
        renewal = self.renewals.answered(subscription, answer)
        if renewal is Renewal.ASK_AGAIN:
            self._authorize(subscription)
        elif renewal is Renewal.END:
            self.unsubscribe(subscription, "forbidden")

    # Time

    def tick(self, moment: Moment) -> None:
        """Does what is due; the shell calls it every quarter second."""
        self._moment = moment
        for session, code in self.deadlines.tick(moment.now):
            if session.caller is None:
                self.metrics.refused("unauthenticated", "no auth frame in time")
            self.disconnect(session, code)
        if moment.now - self._looked_at >= _EVERY_S:
            self._looked_at = moment.now
            self._look(moment.now)

    def _look(self, now: float) -> None:
        """Does what is due about once a second: what waits for an owner, gaps, sessions out of step."""
        self._look_at_pending(now)
        for shard in {*self.pending.waiting(), *self.renewals.waiting()}:
            if shard is None or self.upstream.linked(shard):
                self._resend(shard)
        for feed in self._gaps.due():
            self._repair(feed)
        for session in self.catchup.sessions():
            due = self.catchup.due(session, now)
            if due is Due.END:
                self.disconnect(session, 4508)
            elif due is Due.PUMP:
                self._pump(session)

    def _look_at_pending(self, now: float) -> None:
        """A linked owner that does not answer (it rebuilds) holds up no other topic of a query."""
        for session in self.pending.late(now):
            self.proceed(session)
        for pending in self.pending.expired(now):
            self._deny(pending, Refusal("not_ready", "the topic's owner is away; try again", retry_after_ms=1_000))
            self.proceed(pending.session)
