"""The fan-out itself: pending messages become one write a socket.

Nothing happens per delivery but the write: frames are framed once a message, joined once a topic, and the same bytes
go to every subscriber in step. Topics that are large or hot are swept in slices, behind the others
(`headgate.core.fanout.sweeps`).
"""

from collections import defaultdict
from collections.abc import Callable, Generator

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.fanout.catchup import HELD, CatchUp
from headgate.core.fanout.delivered_events import tell_delivered
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.held_messages import HeldMessages
from headgate.core.fanout.pace import DEFAULT_PACE, Pace
from headgate.core.fanout.ports import GatewayMetrics, Moment
from headgate.core.fanout.ring_memory import RingMemory
from headgate.core.fanout.session import Session, TopicFeed
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
        self._corked: dict[Session, None] = {}
        # Deliveries by milliseconds since the append, of ephemeral and of durable topics.
        self._late: tuple[dict[int, int], dict[int, int]] = ({}, {})

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

    def release(self, session: Session, *, more: bool) -> None:
        """Writes what a session holds; where `more` may come, at the end of the turn, or before any feed is written."""
        if more and len(session.preface) <= HELD:
            self._corked[session] = None
            self._ask_for_run()
        else:
            session.release()

    def run(self, moment: Moment) -> Generator[list[Session]]:
        """Writes everything pending that is not held, one piece of each small feed after the other, then one slice.

        Yields after each round the sessions to pump before the next, while the rings still hold what they need.
        """
        self._uncork()
        began, wall_ms = self._clock(), moment.wall_ms
        added, self._dirty = self._dirty, {}
        dirty = self.held.released(self._without_large(list(added)), moment)
        try:
            while dirty:
                pieces = self._take(dirty, wall_ms)
                again = self._write_one(*pieces[0]) if len(pieces) == 1 else self._write_many(pieces, wall_ms)
                if again:
                    yield again
                dirty = self._without_large([feed for feed in dirty if feed.pending and feed.is_ready])
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
        self._uncork()
        self._dirty.pop(feed, None)
        if feed.blocks is not None:
            self.sweeps.write_out(feed, wall_ms)
            self._ask_for_run()
            return
        self.held.write_out(feed, wall_ms)
        while feed.pending and feed.blocks is None:
            (piece,) = self._take([feed], wall_ms)
            again = self._write_one(*piece)
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

    def _uncork(self) -> None:
        if self._corked:
            corked, self._corked = self._corked, {}
            for session in corked:
                if session.preface:
                    self._writes.write_own(session.put, b"")

    def _without_large(self, feeds: list[TopicFeed]) -> list[TopicFeed]:
        """Returns the small ones of the feeds; the others are swept."""
        large = [feed for feed in feeds if feed.blocks is not None]
        if not large:
            return feeds
        self.sweeps.want(large)
        return [feed for feed in feeds if feed.blocks is None]

    def _take(self, feeds: list[TopicFeed], wall_ms: int) -> list[tuple[TopicFeed, Piece]]:
        """Returns a piece of each feed, and counts what is about to be written to the subscribers in step."""
        take, late, counted, events = self.rings.take, self._late, self._counts.add, self._events
        pieces = [(feed, take(feed)) for feed in feeds]
        for feed, piece in pieces:
            if feed.acked:
                self._full += self._fit(feed, feed.acked, piece)
            count = feed.in_step
            if count:
                of_profile, total = late[feed.durable], 0
                for ts in piece.ts:
                    ms = wall_ms - ts
                    of_profile[ms] = of_profile.get(ms, 0) + count
                    total += ms
                counted(feed, len(piece.ts) * count, total * count if total > 0 else 0)
            if events.on:
                tell_delivered(events, feed, piece, count - len(feed.acked), wall_ms)
            if feed.counts is not None:
                feed.counts.flushed(piece.seq, feed.sent, count)
        return pieces

    def _tell_metrics(self) -> None:
        for late, profile in zip(self._late, ("ephemeral", "durable"), strict=True):
            for ms, count in late.items():
                self._metrics.delivered(profile, count, max(ms / 1000, 0.0))
            late.clear()

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
        write_own, most = self._writes.write_own, self._limits.piece_bytes
        for session, join in joins.items():
            data = b"".join(join)
            if len(data) <= most or len(join) == 1:
                write_own(session.outlet.write, data)
            else:
                self._set_back(session, pieces, wall_ms)
                again.append(session)
        for feed, _ in pieces:
            if feed.waiting:
                again += flushed(feed)
        return again

    def _write_single(self, pieces: list[tuple[TopicFeed, Piece]]) -> dict[Session, list[bytes]]:
        """Writes to the sessions that follow one topic; returns what those of several topics get."""
        joins: defaultdict[Session, list[bytes]] = defaultdict(list)
        for feed, piece in pieces:
            if feed.sockets or feed.shared or feed.acked:
                data = _joined(feed, piece)
                if feed.sockets:
                    self._writes.write([*feed.sockets.values()], data)
                joined = feed.joined
                if joined is None:
                    joined = feed.joined = [subscription.session for subscription in (*feed.shared, *feed.acked)]
                for session in joined:
                    joins[session].append(data)
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
            for ts in piece.ts:
                self._late[feed.durable][wall_ms - ts] -= 1
            self._catchup.set_back(subscription, piece.seq - 1)

    def _write_streams(self, feed: TopicFeed, piece: Piece) -> None:
        data = SSE.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames)
        self._writes.write([*feed.streams.values()], data)


def _joined(feed: TopicFeed, piece: Piece) -> bytes:
    return WEBSOCKET.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames)


def flushed(feed: TopicFeed) -> list[Session]:
    """Ends the wait of the subscriptions that waited for this flush; returns their sessions."""
    if not feed.waiting:
        return []
    waiting = list(feed.waiting)
    for subscription in waiting:
        subscription.flushed()
    return [subscription.session for subscription in waiting]
