"""The gateway's engine: who follows what, and what the owners said; knows neither sockets, clocks nor transports.

Messages come in by `on_push` and wait in their feed; the first of a loop turn asks the shell for one `flush`.
"""

from collections.abc import Callable, Iterable
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET, ClientFrame
from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.deadlines import Deadlines
from headgate.core.fanout.feed import Feed, Subscription
from headgate.core.fanout.flush import Flush
from headgate.core.fanout.gap_repair import GapRepair
from headgate.core.fanout.pending import PendingSubscribe, PendingSubscribes
from headgate.core.fanout.ports import GatewayMetrics, Identity, Upstream
from headgate.core.fanout.renewals import Renewals
from headgate.core.fanout.session import Session
from headgate.core.wire.link import Attach, AttachTopic, Ended, EphemeralMessages, Leave, Message, Messages, Subscribed

ATTACH_CHUNK: Final = 1_000  # topics: about 50 KB on the link
_EVERY_S: Final = 1.0  # how often parked sessions and held subscribes are looked at


class Hub:
    """All feeds and sessions of one gateway. `schedule` asks the shell to call `flush` at the end of the loop turn."""

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        metrics: GatewayMetrics,
        schedule: Callable[[], None],
        *,
        auto_create: bool = False,
        now: float = 0.0,
        wall_ms: int = 0,
    ) -> None:
        self.limits = limits
        self.upstream = upstream
        self.metrics = metrics
        self.auto_create = auto_create
        self.now = now
        self.wall_ms = wall_ms
        self.feeds: dict[str, Feed] = {}
        self.sessions: dict[Session, None] = {}
        self.subscription_count = 0
        self.catchup = CatchUp(self)
        self.openings = PendingSubscribes(self)
        self.renewals = Renewals(self)
        self.vigil = Deadlines(self, now)
        self._holes = GapRepair(self)
        self._flush = Flush(self, schedule)
        self._users: dict[str, int] = {}
        self._looked_at = now

    @property
    def session_count(self) -> int:
        """Connections that were admitted or wait for their `auth` frame."""
        return len(self.sessions)

    # From the link

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """Takes what an owner sends of itself; see `headgate.runtime.links.port.DirectoryUser`."""
        if isinstance(message, Messages):
            self.metrics.link_messages("in", len(message.frames))
            feed = self._feed_of(message.topic_id, message.epoch)
            if feed is not None:
                self._received(feed, message.seq, message.ts, message.frames)
        elif isinstance(message, EphemeralMessages):
            self.metrics.link_messages("in", len(message.frames))
            feed = self._feed_of(message.topic_id, message.epoch)
            if feed is not None:
                self._received(feed, feed.head + 1, message.ts, message.frames)
        elif isinstance(message, Ended):
            feed = self.feeds.get(message.topic_id)
            if feed is not None and feed.epoch <= message.epoch:
                self.end_feed(feed, message.reason)

    def on_owner(self, shard: int, up: bool) -> None:
        """Announces to a new owner what is hosted of its shard, and asks again what it has not answered."""
        if not up:
            return
        hosted = [feed for feed in self.feeds.values() if feed.shard == shard]
        topics = [AttachTopic(f.topic_id, f.epoch, f.head if f.durable else 0, f.count) for f in hosted]
        chunks = [topics[at : at + ATTACH_CHUNK] for at in range(0, len(topics), ATTACH_CHUNK)] or [[]]
        for at, chunk in enumerate(chunks):
            self.upstream.send(shard, Attach(shard, at == 0, at == len(chunks) - 1, chunk))
        self.openings.resend(shard)
        self.renewals.resend(shard)
        for feed in hosted:
            for subscription in list(feed.behind):
                self.catchup.pump(subscription.session)

    def received_late(self, feed: Feed, seq: int, ts: list[int], frames: list[bytes]) -> None:
        """Takes messages that were missing."""
        self._received(feed, seq, ts, frames)

    def _received(self, feed: Feed, seq: int, ts: list[int], frames: list[bytes]) -> None:
        if not feed.append(seq, ts, frames):
            self._holes.fill(feed)
        if feed.pending:
            self._flush.add(feed)

    def _feed_of(self, topic_id: str, epoch: int) -> Feed | None:
        feed = self.feeds.get(topic_id)
        if feed is None or feed.epoch == epoch:
            return feed
        if feed.epoch < epoch:
            self.end_feed(feed, "deleted")  # it was created again, and the word of its end was lost
        return None

    # To the sockets

    def flush(self, now: float, wall_ms: int) -> None:
        """Writes everything pending; the shell calls it when it was asked to."""
        self.now, self.wall_ms = now, wall_ms
        self._flush.run()

    def lose(self, feed: Feed, seq: int) -> None:
        """Tells the subscribers in step that everything below `seq` will not come, and goes on there."""
        self._flush.write_out(feed)
        for subscription in [s for s in feed.subscriptions() if s.group is not None]:
            self.catchup.tell_gap(subscription, feed.sent + 1, seq - 1, "retention")
        self._flush.forget(feed)
        feed.skip(seq)

    # Sessions

    def open(self, session: Session) -> None:
        """Takes a connection; its identity may come later."""
        self.sessions[session] = None
        self.vigil.watch(session)

    def admit(self, session: Session, identity: Identity, frame_id: outbound.FrameId = None) -> bool:
        """Gives a session its identity and says `welcome`; false when its user has too many connections."""
        caller = identity.caller
        count = self._users.get(caller.user_id, 0)
        if count >= self.limits.connections_per_user and not caller.service:
            self.metrics.refused("limit_reached", f"{caller.user_id} has {count} connections")
            self.disconnect(session, 4529, retry_after_ms=5_000)
            return False
        self._users[caller.user_id] = count + 1
        session.caller = caller
        session.deadline = None
        self.identify(session, identity)
        beat_s = self.limits.heartbeat_s if session.framing is WEBSOCKET else self.limits.comment_s
        hello = outbound.welcome(
            session.connection_id, caller.user_id, self.wall_ms, self.limits, beat_s=beat_s, frame_id=frame_id
        )
        if session.framing is WEBSOCKET:
            session.emit(hello)
        else:
            session.preface += session.framing.control(hello)
        return True

    def identify(self, session: Session, identity: Identity) -> None:
        """Takes the rights and the expiry of a token, the first or a fresh one."""
        session.caller = identity.caller
        session.warned = False
        session.expires = None
        if identity.expires_at is not None:
            session.expires = self.now + identity.expires_at - self.wall_ms / 1000

    def grant(self, opening: PendingSubscribe, answer: Subscribed, frames: list[ClientFrame]) -> None:
        """Makes a subscription of the owner's answer."""
        session, topic_id = opening.session, opening.topic_id
        feed = self.feeds.get(topic_id)
        if feed is not None and feed.epoch != answer.epoch:
            self.end_feed(feed, "deleted")
            feed = None
        if feed is None:
            head = answer.seq if answer.settings.get("profile", "durable") == "durable" else 0
            feed = self.feeds[topic_id] = Feed(topic_id, opening.shard, answer.epoch, head, answer.settings)
        cursor, target = (answer.cursor, answer.seq) if feed.durable else (feed.head, feed.head)
        asked = opening.position is not None
        subscription = Subscription(session, feed, cursor, target, says_when=asked)
        session.subscriptions[topic_id] = subscription
        self.subscription_count += 1
        if len(session.subscriptions) == 2:
            self._share(session)
        self.catchup.admit(subscription)
        session.emit(*frames)
        if feed.durable and answer.seq > feed.head:
            feed.hole = max(feed.hole, answer.seq)
            self._holes.fill(feed)
        if opening.caller is not session.caller:  # refreshed while the owner decided on the old rights
            self.renewals.ask(subscription)
        self.catchup.pump(session)

    def unsubscribe(self, subscription: Subscription, reason: str, frame_id: outbound.FrameId = None) -> None:
        """Ends one subscription and says so; an SSE stream has no other and ends."""
        session, feed = subscription.session, subscription.feed
        self._detach(subscription)
        session.emit(outbound.unsubscribed(feed.topic_id, reason, frame_id))
        if session.framing is not WEBSOCKET:
            self.drop(session)
            session.finish(1000, reason)

    def end_feed(self, feed: Feed, reason: str) -> None:
        """The topic is no more (its owner has no route to forget): every subscription ends."""
        self._flush.write_out(feed)
        self.feeds.pop(feed.topic_id, None)
        self._flush.forget(feed)
        for subscription in feed.subscriptions():
            self.unsubscribe(subscription, reason)

    def disconnect(self, session: Session, code: int, *, retry_after_ms: int | None = None) -> None:
        """Ends a session with a `disconnect` frame and a close code."""
        self.drop(session)
        session.leave(code, retry_after_ms)

    def drop(self, session: Session) -> None:
        """Lets go of a session: its connection is gone, or is about to be."""
        if session not in self.sessions:
            return
        del self.sessions[session]
        for opening in list((session.asked or {}).values()):
            self.openings.give_up(opening)
        for subscription in list(session.subscriptions.values()):
            self._detach(subscription)
        self.catchup.drop(session)
        caller = session.caller
        if caller is not None:
            self._forget_user(caller.user_id)

    def sessions_of(self, user_id: str) -> Iterable[Session]:
        """Returns the sessions of a user."""
        return [s for s in self.sessions if s.caller is not None and s.caller.user_id == user_id]

    def _detach(self, subscription: Subscription) -> None:
        session, feed = subscription.session, subscription.feed
        del session.subscriptions[feed.topic_id]
        self.catchup.forget(subscription)
        subscription.step_out()
        del feed.behind[subscription]
        self.subscription_count -= 1
        if self.feeds.get(feed.topic_id) is not feed:
            return  # ended by the owner, who has forgotten it
        self.upstream.send(feed.shard, Leave(feed.topic_id, feed.epoch))
        if feed.count == 0:
            del self.feeds[feed.topic_id]
            self._flush.forget(feed)

    def _share(self, session: Session) -> None:
        """The session follows a second topic: its first moves to where joins are made."""
        for subscription in session.subscriptions.values():
            if subscription.group is not None and session.framing is WEBSOCKET:
                del subscription.group[subscription]
                subscription.step_in()

    def _forget_user(self, user_id: str) -> None:
        left = self._users.get(user_id, 1) - 1
        if left > 0:
            self._users[user_id] = left
        else:
            self._users.pop(user_id, None)

    # Time

    def tick(self, now: float, wall_ms: int) -> None:
        """Does what is due; the shell calls it every quarter second."""
        self.now, self.wall_ms = now, wall_ms
        self.vigil.tick(now)
        if now - self._looked_at < _EVERY_S:
            return
        self._looked_at = now
        self.openings.tick(now)
        self.renewals.tick()
        self._holes.tick()
        self.vigil.look_at_parked(now)
