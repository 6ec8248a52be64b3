"""The fan-out itself: pending messages become one write a socket.

Nothing happens per delivery but the write: frames are framed once a message, joined once a topic, and the same bytes
go to every subscriber in step.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.delivered_events import tell_delivered
from headgate.core.fanout.feed import Piece, Write
from headgate.core.fanout.held_messages import HeldMessages
from headgate.core.fanout.ports import GatewayMetrics, Moment
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.wire.link_messages import Amended


class Flush:
    """The feeds with pending messages, and the rings of all feeds. `schedule` asks the shell for one `run`.

    `fit` is called before a piece is written to a feed with acknowledged subscriptions in step: it takes those out of
    step that have no room, and returns their sessions.
    """

    def __init__(
        self,
        limits: Limits,
        metrics: GatewayMetrics,
        catchup: CatchUp,
        schedule: Callable[[], None],
        events: DeliveryEvents,
        fit: Callable[[TopicFeed], list[Session]],
    ) -> None:
        self._events = events
        self.held = HeldMessages(self.add)
        self._counts = catchup.counts
        self._limits = limits
        self._metrics = metrics
        self._catchup = catchup
        self._schedule = schedule
        self._fit = fit
        self._scheduled = False
        self._dirty: dict[TopicFeed, None] = {}
        # The feed that was written longest ago first; a plain dict would scan for its first key.
        self._rings: OrderedDict[TopicFeed, None] = OrderedDict()
        self._ring_bytes = 0
        self.failures = 0
        self._full: list[Session] = []

    @property
    def is_scheduled(self) -> bool:
        """Whether a `run` was asked for."""
        return self._scheduled

    def add(self, feed: TopicFeed) -> None:
        """Takes a feed with pending messages; the first of a loop turn schedules the flush."""
        self._dirty[feed] = None
        if not self._scheduled:
            self._scheduled = True
            self._schedule()

    def run(self, moment: Moment) -> Generator[list[Session]]:
        """Writes everything pending that is not held, one piece of each feed after the other.

        Yields after each round the sessions to pump before the next, while the rings still hold what they need.
        """
        wall_ms = moment.wall_ms
        dirty, self._dirty = self.held.released(self._dirty, moment.now), {}
        try:
            while dirty:
                pieces = [(feed, self._take(feed, wall_ms)) for feed in dirty]
                again = self._write_one(*pieces[0]) if len(pieces) == 1 else self._write_many(pieces)
                if again:
                    yield again
                dirty = [feed for feed in dirty if feed.pending and feed.is_ready]
        finally:  # also where a pump fails: the rest is written in the next turn
            self._dirty |= dict.fromkeys(feed for feed in dirty if feed.is_ready)
            self._scheduled = bool(self._dirty)
            if self._scheduled:
                self._schedule()

    def write_out(self, feed: TopicFeed, wall_ms: int) -> Iterator[list[Session]]:
        """Writes everything that one feed has pending, held or not, now; yields as `run` does."""
        self._dirty.pop(feed, None)
        self.held.release(feed)
        while feed.pending:
            again = self._write_one(feed, self._take(feed, wall_ms))
            if again:
                yield again

    def amend(self, feed: TopicFeed, message: Amended) -> None:
        """Replaces what a feed holds of a message that was changed, in its ring and among the pending."""
        before = feed.ring.size
        feed.amend(message.seq, message.frame, redacted=message.redacted, limits=self._limits)
        if feed in self._rings:
            self._ring_bytes += feed.ring.size - before

    def forget(self, feed: TopicFeed) -> None:
        """The feed ended, or begins anew: frees its ring, and drops pending messages that nobody is left to get."""
        self._dirty.pop(feed, None)
        self.held.release(feed)
        feed.pending, feed.pending_ts = [], []
        if feed in self._rings:
            del self._rings[feed]
            self._ring_bytes -= feed.ring.clear()

    def _take(self, feed: TopicFeed, wall_ms: int) -> Piece:
        before = feed.ring.size
        piece = feed.take(self._limits)
        self._ring_bytes += feed.ring.size - before
        self._rings[feed] = None
        self._rings.move_to_end(feed)
        while self._ring_bytes > self._limits.rings_bytes:
            oldest, _ = self._rings.popitem(last=False)
            self._ring_bytes -= oldest.ring.clear()
        if feed.acked:
            self._full += self._fit(feed)
        count = feed.in_step
        if count:
            delivered, profile = self._metrics.delivered, feed.profile
            for ts in piece.ts:
                delivered(profile, count, max((wall_ms - ts) / 1000, 0.0))
            self._counts.delivered(feed, piece.ts, count, wall_ms)
        if self._events.on:
            tell_delivered(self._events, feed, piece, count, wall_ms)
        if feed.counts is not None:
            feed.counts.flushed(piece.seq, feed.sent, count)
        return piece

    def _write_one(self, feed: TopicFeed, piece: Piece) -> list[Session]:
        if feed.sockets or feed.shared or feed.acked:
            writers = [*feed.sockets.values(), *feed.shared.values(), *feed.acked.values()]
            self._write(writers, _joined(feed, piece))
        self._write_streams(feed, piece)
        return self._taken_full() + flushed(feed)

    def _write_many(self, pieces: list[tuple[TopicFeed, Piece]]) -> list[Session]:
        """Writes a piece of each of several feeds; returns the sessions to pump."""
        joins: dict[Session, list[bytes]] = {}
        for feed, piece in pieces:
            if feed.sockets or feed.shared or feed.acked:
                data = _joined(feed, piece)
                self._write([*feed.sockets.values()], data)
                _collect(feed.shared, data, joins)
                _collect(feed.acked, data, joins)  # its session may follow others: one write, or a park loses the rest
            self._write_streams(feed, piece)
        again = self._taken_full()
        for session, join in joins.items():
            data = join[0] if len(join) == 1 else b"".join(join)
            if len(join) == 1 or len(data) <= self._limits.piece_bytes:
                self._write((session.outlet.write,), data)
            else:
                self._set_back(session, pieces)
                again.append(session)
        for feed, _ in pieces:
            again += flushed(feed)
        return again

    def _taken_full(self) -> list[Session]:
        """Returns the sessions that `fit` took out of step: there may be room for a part of the piece."""
        full, self._full = self._full, []
        return full

    def _set_back(self, session: Session, pieces: list[tuple[TopicFeed, Piece]]) -> None:
        """One write may not carry so much: the session continues where it was before, topic by topic."""
        for feed, piece in pieces:
            subscription = session.subscriptions.get(feed.topic_id)
            if subscription is None or not (subscription in feed.shared or subscription in feed.acked):
                continue
            if subscription.acks is not None:
                subscription.acks.take_back(piece.seq)
            self._catchup.set_back(subscription, piece.seq - 1)

    def _write_streams(self, feed: TopicFeed, piece: Piece) -> None:
        if feed.streams:
            data = SSE.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames)
            self._write([*feed.streams.values()], data)

    def _write(self, writers: list[Write] | tuple[Write], data: bytes) -> None:
        """One write a socket. One that raises harms no other."""
        rest = iter(writers)
        while True:
            try:
                for write in rest:
                    write(data)
                return
            except Exception:  # a transport that broke; its session ends by connection_lost
                self.failures += 1


def _joined(feed: TopicFeed, piece: Piece) -> bytes:
    return WEBSOCKET.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames)


def _collect(subscriptions: Iterable[Subscription], data: bytes, joins: dict[Session, list[bytes]]) -> None:
    """Adds a topic's bytes to the joins of the sessions that follow several topics."""
    for subscription in subscriptions:
        join = joins.get(subscription.session)
        if join is None:
            joins[subscription.session] = [data]
        else:
            join.append(data)


def flushed(feed: TopicFeed) -> list[Session]:
    """Ends the wait of the subscriptions that waited for this flush; returns their sessions."""
    if not feed.waiting:
        return []
    waiting = list(feed.waiting)
    for subscription in waiting:
        subscription.flushed()
    return [subscription.session for subscription in waiting]
