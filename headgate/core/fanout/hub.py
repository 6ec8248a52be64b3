"""The gateway's engine: who follows what, and what the owners sent; everything that happens is done from here.

Messages come in by `on_push` and wait in their feed; the first of a loop turn asks the shell for one `flush`. The parts
(catch-up, pending subscribes, gap repair, renewals, deadlines) decide and return what to do; the hub does it.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.inbound import DEFAULT_DEVICE, Ack, Nack, Subscribe
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.delivery.retry import Draw, no_jitter
from headgate.core.fanout import grants
from headgate.core.fanout.ack_events import AckEvents
from headgate.core.fanout.acknowledging import AckActions, Acknowledging
from headgate.core.fanout.announcement_pace import AnnouncementPace, Later
from headgate.core.fanout.audience import Audience
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.connections import Connections
from headgate.core.fanout.deadlines import Deadlines
from headgate.core.fanout.endings import Endings
from headgate.core.fanout.faults import Faults
from headgate.core.fanout.feed import attach
from headgate.core.fanout.feed_input import FeedInput
from headgate.core.fanout.feed_news import FeedNews, News
from headgate.core.fanout.fence_holds import FenceActions, FenceHolds
from headgate.core.fanout.flush import Flush
from headgate.core.fanout.owner_waits import OwnerWaits, WaitActions
from headgate.core.fanout.pace import DEFAULT_PACE, DIRECT, Pace, known_heat
from headgate.core.fanout.pending import PendingSubscribes
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.ports import GatewayMetrics, Moment, Upstream
from headgate.core.fanout.pumping import Pumping
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.subscribing import SubscribeActions, Subscribing
from headgate.core.fanout.user_announcements import UserAnnouncements
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Ended, EphemeralMessages, Leave, Message, Messages, Subscribed
from headgate.core.wire.rights import Identity

_RETRY_MS: Final = 1_000  # of a refusal that names no time
_EVERY_S: Final = 1.0  # how often parked sessions and held subscribes are looked at


class Hub:
    """All feeds and sessions of one gateway.

    `schedule` asks the shell to call `flush` at the end of the loop turn, `later` to call a function after so many
    seconds. `moment` is the time of the call, where a method takes it. An owner's message carries no time: it is judged
    by the newest that the hub was given. `clock` returns monotonic seconds, for slices; without it they are counted.
    """

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        metrics: GatewayMetrics,
        schedule: Callable[[], None],
        later: Later,
        moment: Moment,
        *,
        auto_create: bool = False,
        draw: Draw = no_jitter,
        clock: Callable[[], float] = float,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self._moment = moment
        self._pace = pace
        self.limits = limits
        self.upstream = upstream
        self.metrics = metrics
        self.feeds: dict[str, TopicFeed] = {}
        self.subscription_count = 0
        self.catchup = CatchUp(limits, upstream, metrics)
        self.counts = self.catchup.counts
        end, wall_ms = self.disconnect, lambda: self._moment.wall_ms
        self._pumping = Pumping(limits, upstream, self.catchup, end, self._go_on, wall_ms)
        self._pump = self._pumping.pump
        self.pending = PendingSubscribes(limits, upstream.send)
        self.faults = Faults()
        self.deadlines = Deadlines(limits, self.catchup, moment.now, self.faults)
        self.events = DeliveryEvents(metrics.lifecycle_events)
        replace = partial(self.unsubscribe, reason="replaced")
        do_acks = AckActions(self._pump, replace, schedule, lambda: self._moment.now, wall_ms)
        tell = AckEvents(self.events, self.counts, metrics.redelivered, lambda: self._moment)
        self.acknowledging = Acknowledging(limits, upstream, tell, self.catchup, self.deadlines, draw, do_acks)
        fit = self.acknowledging.fit
        self._flush = Flush(limits, metrics, self.catchup, schedule, self.events, fit, clock, pace)
        self.held, self.sweeps = self._flush.held, self._flush.sweeps
        self._endings = Endings(self.sweeps, schedule, self.unsubscribe, self._flush.forget)
        self._input = FeedInput(limits, upstream, self._flush, self.catchup, self._finish, self._pumping.pump_all)
        self.connections = Connections(limits.connections_per_user, upstream.shard_of_user)
        self._users = UserAnnouncements(self.connections, upstream)
        self._announcing = AnnouncementPace(schedule, later)
        self.audience = Audience(self.feeds, upstream, self.connections, schedule, self._announcing.want)
        permit, forbid = self.audience.presence.permit, partial(self.unsubscribe, reason="forbidden")
        do = FenceActions(self.write_out, self._pumping.bring_up, forbid, self._pump, permit)
        self._fences = FenceHolds(upstream, self.connections, self.catchup, do)
        self.renewals = self._fences.renewals
        self._news = FeedNews(self._flush, self._input, self._fences, self.acknowledging, self.audience)
        before = self.acknowledging.reports.before_opening
        ask = SubscribeActions(self._grant, self.refuse, self.overloaded, self.drop, before, lambda: self._moment)
        self._subscribing = Subscribing(
            self.pending, self.feeds, upstream, metrics, self.audience, ask, auto_create=auto_create
        )
        ask_again = WaitActions(self._subscribing.ask, self._subscribing.deny, self._subscribing.proceed)
        self._waits = OwnerWaits(upstream, self.pending, self.renewals, ask_again)
        self._welcome_ends = outbound.welcome_ends(limits)
        self._looked_at = moment.now
        self._tick_ms = moment.wall_ms  # one object for all that begins before the next tick: it costs them nothing

    @property
    def session_count(self) -> int:
        """Connections that were admitted or wait for their `auth` frame."""
        return len(self.connections)

    # From the link

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """Takes a message that an owner sent unasked; see `headgate.runtime.links.port.DirectoryUser`."""
        if self.pending.turns.kept:
            self.pending.turns.told(getattr(message, "topic_id", ""))
        if isinstance(message, (Messages, EphemeralMessages)):  # a union would be made for each message
            self._input.came += len(message.frames)
            if (feed := self._feed_of(message.topic_id, message.epoch)) is not None:
                self._input.take(feed, message)
        elif isinstance(message, Ended):
            feed = self.feeds.get(message.topic_id)
            if feed is not None and feed.epoch <= message.epoch:
                self._end_feed(feed, message.reason)
        elif isinstance(message, News):
            if (feed := self._feed_of(message.topic_id, message.epoch)) is not None:
                self._news.take(feed, message)
        else:
            self.audience.receive(message)

    def advance(self, moment: Moment) -> None:
        """Takes the time; called before `on_push` of a message that is judged by more than the newest tick."""
        self._moment = moment

    def on_owner(self, shard: int, up: bool) -> None:
        """Announces the hosted topics of a shard to its new owner, and asks again what was not answered."""
        self.pending.turns.lose(shard)
        if not up:
            return
        hosted = [feed for feed in self.feeds.values() if feed.shard == shard]
        self.acknowledging.attach(shard, self.pending.leases())
        for feed in hosted:
            feed.warm(DIRECT)  # the owner names those that are not
        for announcement in attach(shard, hosted):
            self.upstream.send(shard, announcement)
        self._users.attach(shard)  # behind the leases: once the owner has heard all users it gives new ones
        self.audience.presence.attach(shard)
        self._waits.resend(shard)
        for feed in hosted:
            for subscription in list(feed.behind):
                self._pump(subscription.session)

    def _feed_of(self, topic_id: str, epoch: int) -> TopicFeed | None:
        feed = self.feeds.get(topic_id)
        if feed is not None and feed.epoch < epoch:
            self._end_feed(feed, "deleted")  # the topic was recreated, and its Ended message was lost
        return feed if feed is not None and feed.epoch == epoch else None

    # To the sockets

    def flush(self, moment: Moment) -> None:
        """Writes everything pending; the shell calls it when it was asked to."""
        self._moment = moment
        self._input.tell(self.metrics)
        try:
            if self._flush.is_scheduled:  # else only users changed: a connect, as often as once a turn
                with closing(self._flush.run(moment)) as rounds:
                    self._pumping.pump_all(rounds)
        finally:
            if self._announcing.take():
                self._users.announce()
                self.audience.presence.announce()
            self.acknowledging.reports.announce()
            self.audience.flush(moment.now)
            if self._endings:
                self._endings.write()

    def resume(self, session: Session, moment: Moment) -> None:
        """The socket takes bytes again."""
        self._moment = moment
        session.resume()
        self._pumping.resume(session)

    def _go_on(self, session: Session) -> None:
        """Does what waited for a socket."""
        self.proceed(session)
        self.audience.presence.questions.go_on(session)

    def write_out(self, feed: TopicFeed) -> None:
        """Writes what one feed has pending, held or not; of one that is swept it is in the ring when this returns."""
        self._pumping.pump_all(self._flush.write_out(feed, self._moment.wall_ms))

    def _finish(self, feed: TopicFeed) -> None:
        """Writes what one feed has to all, before the end of the turn."""
        self._pumping.pump_all(self._flush.finish(feed, self._moment))

    # Sessions

    def open(self, session: Session) -> None:
        """Takes a connection; its identity may come later."""
        session.opened(self._tick_ms)
        self.connections.open(session)
        self.deadlines.watch(session)

    def admit(self, session: Session, identity: Identity, moment: Moment, frame_id: FrameId = None) -> bool:
        """Gives a session its identity and sends `welcome`; false when its user has too many connections."""
        if not self.connections.admit(session, identity.caller):
            self.turn_away(session, identity.caller.user_id)
            return False
        self._announcing.want()
        session.identify(identity, moment)
        session.greet(moment.wall_ms, self.connections.jitter(), self._welcome_ends[session.framing], frame_id)
        return True

    def turn_away(self, session: Session, user_id: str) -> None:
        """Ends a session of a user who has too many."""
        self.metrics.refused("limit_reached", f"{user_id} has too many connections")
        self.disconnect(session, 4529, retry_after_ms=5_000)

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

    def overloaded(self, session: Session, retry_after_ms: int | None) -> None:
        """Ends a session that may be served when it comes again, at the earliest after so many milliseconds."""
        self.disconnect(session, 4503, retry_after_ms=_RETRY_MS if retry_after_ms is None else retry_after_ms)

    def lost(self, session: Session) -> None:
        """The connection is gone."""
        session.lose()
        self.drop(session)

    def drop(self, session: Session) -> None:
        """Lets go of a session: its connection is gone, or is about to be."""
        if not self.connections.close(session):
            return
        if session.caller is not None:
            self._announcing.want()
        self.pending.drop(session)
        for subscription in list(session.subscriptions.values()):
            self._detach(subscription)
        self.catchup.drop(session)
        self.audience.drop(session)

    def refuse(self, session: Session, refusal: Refusal, frame_id: FrameId, topic_id: str | None) -> None:
        """Answers a frame with `error`; the connection stays."""
        self.metrics.refused(refusal.code, refusal.detail)
        session.emit(outbound.error(refusal, frame_id, topic_id))

    def _end_feed(self, feed: TopicFeed, reason: str) -> None:
        """The topic is gone, and its owner has no route to forget: every subscription ends."""
        self.write_out(feed)
        if feed.blocks is None:
            self._let_go(feed)
            for subscription in feed.subscriptions():
                self.unsubscribe(subscription, reason)
        else:
            self._leave_out(feed)
            self._endings.add(feed, reason)

    def _detach(self, subscription: Subscription) -> None:
        feed = subscription.feed
        self.catchup.forget(subscription)
        self.acknowledging.end(subscription)
        subscription.end()
        self.audience.end(subscription)
        self.subscription_count -= 1
        if self.feeds.get(feed.topic_id) is not feed:
            return  # ended by the owner, who has forgotten it
        self.upstream.send(feed.shard, Leave(feed.topic_id, feed.epoch))
        if feed.count == 0:
            self._let_go(feed)

    def _let_go(self, feed: TopicFeed) -> None:
        self._leave_out(feed)
        self._flush.forget(feed)

    def _leave_out(self, feed: TopicFeed) -> None:
        """The topic is not followed here any longer."""
        self.feeds.pop(feed.topic_id, None)
        self._input.forget(feed)
        self.audience.presence.forget(feed.topic_id)

    # Subscribing

    def begin(self, session: Session, moment: Moment) -> None:
        """Asks for the topics of an admitted session's query, in order."""
        self._moment = moment
        only = self.pending.begin(session, moment.now)
        if only is None:
            self.proceed(session)
        else:
            self._subscribing.ask(only)

    def subscribe(self, session: Session, wanted: Subscribe, moment: Moment, frame_id: FrameId = None) -> None:
        """Asks for a topic. Raises Refusal `already_subscribed` or `limit_reached`."""
        self._moment = moment
        self._subscribing.subscribe(session, wanted, frame_id)

    def ack(self, session: Session, command: Ack | Nack, moment: Moment, frame_id: FrameId) -> None:
        """Takes an acknowledgement or a refusal. Raises Refusal."""
        self._moment = moment
        if isinstance(command, Ack):
            self.acknowledging.ack(session, command, frame_id)
        else:
            self.acknowledging.nack(session, command, frame_id)

    def proceed(self, session: Session) -> None:
        """Asks for the next topics of a session's query."""
        self._subscribing.proceed(session)

    def _grant(self, pending: PendingSubscribe, answer: Subscribed) -> None:
        """Makes a subscription of the owner's answer."""
        session, feed = pending.session, self._granted(pending, answer)
        if session.closed:  # by what was written meanwhile
            self.upstream.send(feed.shard, Leave(feed.topic_id, feed.epoch))
            if feed.count == 0:
                self._let_go(feed)
            return
        begin = grants.begin_of(pending, answer, feed)
        subscription = session.follow(feed, *begin, member=answer.member, at_ms=self._tick_ms)
        if pending.subscribe.device_id != DEFAULT_DEVICE:
            self.connections.use_device(session, pending.subscribe.device_id)
        self.acknowledging.begin(subscription, pending, answer)
        self.subscription_count += 1
        presence = self.audience.presence.begin(subscription, pending, answer)
        frames = grants.first_frames(pending, answer, self.metrics, presence)
        session.hold(b"".join(map(session.framing.control, frames)))  # one write with what is missed and `caught_up`
        is_live = self.catchup.begin(subscription)
        self._input.begun(subscription, answer.seq)
        if not is_live:
            self._pump(session)
        self._flush.release(session, more=self.pending.count(session) > 0)
        if pending.caller is not session.caller:  # refreshed while the owner decided on the old rights
            self.renewals.want([subscription])

    def _granted(self, pending: PendingSubscribe, answer: Subscribed) -> TopicFeed:
        """Returns the feed of a grant, as the answer has it."""
        feed = self.feeds.get(pending.topic_id)
        if feed is not None and feed.epoch != answer.epoch:
            self._end_feed(feed, "deleted")
            feed = None
        if feed is None:
            feed = self.feeds[pending.topic_id] = grants.new_feed(pending, answer, self._pace)
            return feed
        feed.warm(known_heat(answer.heat))
        self._input.configure(feed, answer.settings)
        self.acknowledging.configure(feed)
        if answer.fence > feed.fence:
            self._fences.know(feed, answer.fence)
        return feed

    # Time

    def tick(self, moment: Moment) -> None:
        """Does what is due; the shell calls it every quarter second."""
        self._moment = moment
        self._tick_ms = moment.wall_ms
        self._input.tell(self.metrics)
        for session, code in self.deadlines.tick(moment.now):
            if session.caller is None:
                self.metrics.refused("unauthenticated", "no auth frame in time")
            with self.faults:
                self.disconnect(session, code)
        if moment.now - self._looked_at >= _EVERY_S:
            self._looked_at = moment.now
            self._look(moment.now)
        self.audience.tick(moment.now)

    def _look(self, now: float) -> None:
        """Does what is due about once a second: what waits for an owner, gaps, sessions out of step."""
        self._waits.look(now)
        self._input.repair_due()
        self.acknowledging.look()
        for session in self.catchup.sessions():
            with self.faults:
                self._pumping.look(session, now)
