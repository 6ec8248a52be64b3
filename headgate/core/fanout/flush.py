"""The fan-out itself: pending messages become one write a socket.

Nothing happens per delivery but the write: frames are framed once a message, joined once a topic, and the same bytes
go to every subscriber in step. Topics that are large or hot are swept in slices, behind the others
(`headgate.core.fanout.sweeps`).
"""

from collections.abc import Callable, Generator, Iterable

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.delivered_events import tell_delivered
from headgate.core.fanout.feed import Piece, Write
from headgate.core.fanout.held_messages import HeldMessages
from headgate.core.fanout.pace import DEFAULT_PACE, Pace
from headgate.core.fanout.ports import GatewayMetrics, Moment
from headgate.core.fanout.ring_memory import RingMemory
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.socket_writes import SocketWrites
from headgate.core.fanout.sweeps import Fit, Sweeps, SweepTools
from headgate.core.wire.link_messages import Amended


class Flush:
    """The feeds with pending messages. `schedule` asks the shell for one `run`.

    `fit` is called before a piece is written to acknowledged subscriptions in step, with those: it takes the ones out
    of step that have no room, and returns their sessions. `clock` returns monotonic seconds: it measures slices.
    """

    def __init__(
        self,
        limits: Limits,
        metrics: GatewayMetrics,
        catchup: CatchUp,
        schedule: Callable[[], None],
        events: DeliveryEvents,
        fit: Fit,
        clock: Callable[[], float],
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self._events = events
        self.held = HeldMessages(self.add, events)
        self._counts = catchup.counts
        self._limits = limits
        self._metrics = metrics
        self._catchup = catchup
        self._schedule = schedule
        self._fit = fit
        self._clock = clock
        self._scheduled = False
        self._dirty: dict[TopicFeed, None] = {}
        self.rings = RingMemory(limits)
        self._writes = SocketWrites()
        tools = SweepTools(self.add, self.held, self.rings, self._writes, self._counts, metrics, events, fit)
        self.sweeps = Sweeps(limits, pace, clock, tools)
        self._full: list[Session] = []
        self._late: dict[tuple[str, int], int] = {}  # deliveries by profile and milliseconds since the append

    @property
    def is_scheduled(self) -> bool:
        """Whether a `run` was asked for."""
        return self._scheduled

    @property
    def failures(self) -> int:
        """How many writes raised."""
        return self._writes.failures

    def add(self, feed: TopicFeed) -> None:
        """Takes a feed with pending messages; the first of a loop turn schedules the flush."""
        self._dirty[feed] = None
        self._ask_for_run()

    def run(self, moment: Moment) -> Generator[list[Session]]:
        """Writes everything pending that is not held, one piece of each small feed after the other, then one slice.

        Yields after each round the sessions to pump before the next, while the rings still hold what they need.
        """
        began, wall_ms = self._clock(), moment.wall_ms
        added, self._dirty = self._dirty, {}
        dirty = self.held.released(self._without_large(added), moment)
        try:
            while dirty:
                pieces = [(feed, self._take(feed, wall_ms)) for feed in dirty]
                again = self._write_one(*pieces[0]) if len(pieces) == 1 else self._write_many(pieces, wall_ms)
                if again:
                    yield again
                dirty = self._without_large(feed for feed in dirty if feed.pending and feed.is_ready)
            if self.sweeps.is_due:
                yield from self.sweeps.run(moment, began)
        finally:  # also where a pump fails: the rest is written in the next turn
            self._tell_metrics()
            self._dirty |= dict.fromkeys(feed for feed in dirty if feed.is_ready)
            self._scheduled = bool(self._dirty) or self.sweeps.is_due
            if self._scheduled:
                self._schedule()

    def write_out(self, feed: TopicFeed, wall_ms: int) -> Generator[list[Session]]:
        """Writes everything that one feed has pending, held or not, now; yields as `run` does.

        A feed that is swept gets it behind its sweep: it is in its ring when this returns.
        """
        self._dirty.pop(feed, None)
        if feed.blocks is not None:
            self.sweeps.write_out(feed, wall_ms)
            self._ask_for_run()
            return
        self.held.write_out(feed, wall_ms)
        while feed.pending and feed.blocks is None:
            again = self._write_one(feed, self._take(feed, wall_ms))
            if again:
                yield again
        self._tell_metrics()
        if feed.pending:  # who was pumped has made it a large one
            yield from self.write_out(feed, wall_ms)

    def finish(self, feed: TopicFeed, moment: Moment) -> Generator[list[Session]]:
        """Writes everything that one feed has, as `write_out`, and ends its sweep in this turn."""
        yield from self.write_out(feed, moment.wall_ms)
        yield from self.sweeps.finish(feed, moment)

    def amend(self, feed: TopicFeed, message: Amended) -> None:
        """Replaces what a feed holds of a message that was changed: in its ring, its sweep and among the pending."""
        self.rings.amend(feed, message)
        self.sweeps.amend(feed, message)

    def forget(self, feed: TopicFeed) -> None:
        """The feed ended, or begins anew: frees its ring, and drops pending messages that nobody is left to get."""
        self._dirty.pop(feed, None)
        self.held.release(feed)
        self.sweeps.forget(feed)
        feed.pending, feed.pending_ts = [], []
        self.rings.forget(feed)

    def _ask_for_run(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._schedule()

    def _without_large(self, feeds: Iterable[TopicFeed]) -> list[TopicFeed]:
        """Returns the small ones of the feeds; the others are swept."""
        small: list[TopicFeed] = []
        large: list[TopicFeed] = []
        for feed in feeds:
            (small if feed.blocks is None else large).append(feed)
        if large:
            self.sweeps.want(large)
        return small

    def _take(self, feed: TopicFeed, wall_ms: int) -> Piece:
        piece = self.rings.take(feed)
        if feed.acked:
            self._full += self._fit(feed, feed.acked, piece)
        count = feed.in_step
        if count:
            late, profile = self._late, feed.profile
            for ts in piece.ts:
                found = (profile, wall_ms - ts)
                late[found] = late.get(found, 0) + count
            self._counts.delivered(feed, piece.ts, count, wall_ms)
        if self._events.on:
            tell_delivered(self._events, feed, piece, count - len(feed.acked), wall_ms)
        if feed.counts is not None:
            feed.counts.flushed(piece.seq, feed.sent, count)
        return piece

    def _tell_metrics(self) -> None:
        late, self._late = self._late, {}
        for (profile, ms), count in late.items():
            self._metrics.delivered(profile, count, max(ms / 1000, 0.0))

    def _write_one(self, feed: TopicFeed, piece: Piece) -> list[Session]:
        if feed.sockets or feed.shared or feed.acked:
            writers = [*feed.sockets.values(), *feed.shared.values(), *feed.acked.values()]
            self._writes.write(writers, _joined(feed, piece))
        if feed.streams:
            self._write_streams(feed, piece)
        return self._taken_full() + flushed(feed)

    def _write_many(self, pieces: list[tuple[TopicFeed, Piece]], wall_ms: int) -> list[Session]:
        """Writes a piece of each of several feeds; returns the sessions to pump."""
        joins = self._write_single(pieces)
        again = self._taken_full()
        writes: list[tuple[Write, bytes]] = []
        for session, join in joins.items():
            data = join[0] if len(join) == 1 else b"".join(join)
            if len(join) == 1 or len(data) <= self._limits.piece_bytes:
                writes.append((session.outlet.write, data))
            else:
                self._set_back(session, pieces, wall_ms)
                again.append(session)
        self._writes.write_each(writes)
        for feed, _ in pieces:
            if feed.waiting:
                again += flushed(feed)
        return again

    def _write_single(self, pieces: list[tuple[TopicFeed, Piece]]) -> dict[Session, list[bytes]]:
        """Writes to the sessions that follow one topic; returns what those of several topics get."""
        joins: dict[Session, list[bytes]] = {}
        for feed, piece in pieces:
            if feed.sockets or feed.shared or feed.acked:
                data = _joined(feed, piece)
                if feed.sockets:
                    self._writes.write([*feed.sockets.values()], data)
                _collect(feed.shared, data, joins)
                _collect(feed.acked, data, joins)  # its session may follow others: one write, or a park loses the rest
            if feed.streams:
                self._write_streams(feed, piece)
        return joins

    def _taken_full(self) -> list[Session]:
        """Returns the sessions that `fit` took out of step: there may be room for a part of the piece."""
        full, self._full = self._full, []
        return full

    def _set_back(self, session: Session, pieces: list[tuple[TopicFeed, Piece]], wall_ms: int) -> None:
        """One write may not carry so much: the session continues where it was before, topic by topic."""
        for feed, piece in pieces:
            subscription = session.subscriptions.get(feed.topic_id)
            if subscription is None or not (subscription in feed.shared or subscription in feed.acked):
                continue
            if subscription.acks is not None:
                subscription.acks.take_back(piece.seq)
            self._counts.taken_back(feed, piece.ts, wall_ms)
            self._catchup.set_back(subscription, piece.seq - 1)

    def _write_streams(self, feed: TopicFeed, piece: Piece) -> None:
        data = SSE.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames)
        self._writes.write([*feed.streams.values()], data)


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
