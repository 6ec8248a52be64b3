"""The fan-out itself: what is pending becomes one write a socket; knows neither links nor how a session began.

Nothing happens per delivery but the write: frames are framed once a message, joined once a topic, and the same bytes
go to every subscriber in step.
"""

from collections.abc import Callable
from typing import Protocol

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.feed import Feed, Piece, Write
from headgate.core.fanout.ports import GatewayMetrics
from headgate.core.fanout.session import Session


class Flushed(Protocol):
    """What a flush asks of the hub."""

    limits: Limits
    metrics: GatewayMetrics
    wall_ms: int
    catchup: CatchUp


class Flush:
    """The feeds with something pending, and the rings of all feeds. `schedule` asks the shell for one `run`."""

    def __init__(self, hub: Flushed, schedule: Callable[[], None]) -> None:
        self._hub = hub
        self._schedule = schedule
        self._scheduled = False
        self._dirty: dict[Feed, None] = {}
        self._rings: dict[Feed, None] = {}  # the feed that was written longest ago first
        self._ring_bytes = 0
        self.failures = 0

    def add(self, feed: Feed) -> None:
        """The feed has something pending; the first of a loop turn schedules the flush."""
        self._dirty[feed] = None
        if not self._scheduled:
            self._scheduled = True
            self._schedule()

    def run(self) -> None:
        """Writes everything pending, one piece of each feed after the other."""
        dirty, self._dirty = list(self._dirty), {}
        while dirty:
            pieces = [(feed, self._take(feed)) for feed in dirty]
            if len(pieces) == 1:
                self._write_one(*pieces[0])
            else:
                self._write_many(pieces)
            dirty = [feed for feed in dirty if feed.pending]
        self._scheduled = bool(self._dirty)
        if self._scheduled:
            self._schedule()

    def write_out(self, feed: Feed) -> None:
        """Writes what one feed has pending, now."""
        self._dirty.pop(feed, None)
        while feed.pending:
            self._write_one(feed, self._take(feed))

    def forget(self, feed: Feed) -> None:
        """The feed is no more, or begins anew: its ring is given back."""
        self._dirty.pop(feed, None)
        if feed in self._rings:
            del self._rings[feed]
            self._ring_bytes -= feed.ring.clear()

    def _take(self, feed: Feed) -> Piece:
        before = feed.ring.size
        piece = feed.take(self._hub.limits)
        self._ring_bytes += feed.ring.size - before
        self._rings.pop(feed, None)
        self._rings[feed] = None
        while self._ring_bytes > self._hub.limits.rings_bytes:
            oldest = next(iter(self._rings))
            del self._rings[oldest]
            self._ring_bytes -= oldest.ring.clear()
        count = feed.in_step
        if count:
            delivered, wall_ms, profile = self._hub.metrics.delivered, self._hub.wall_ms, feed.profile
            for ts in piece.ts:
                delivered(profile, count, max((wall_ms - ts) / 1000, 0.0))
        return piece

    def _write_one(self, feed: Feed, piece: Piece) -> None:
        if feed.sockets or feed.shared:
            self._write([*feed.sockets.values(), *feed.shared.values()], _joined(feed, piece))
        self._write_streams(feed, piece)
        self._step_in_waiting(feed)

    def _write_many(self, pieces: list[tuple[Feed, Piece]]) -> None:
        joins: dict[Session, list[bytes]] = {}
        for feed, piece in pieces:
            if feed.sockets or feed.shared:
                data = _joined(feed, piece)
                self._write([*feed.sockets.values()], data)
                _collect(feed, data, joins)
            self._write_streams(feed, piece)
        for session, join in joins.items():
            if len(join) == 1:
                self._write((session.outlet.write,), join[0])
                continue
            data = b"".join(join)
            if len(data) <= self._hub.limits.piece_bytes:
                self._write((session.outlet.write,), data)
            else:
                self._write_by_topic(session, pieces)
        for feed, _ in pieces:
            self._step_in_waiting(feed)

    def _write_by_topic(self, session: Session, pieces: list[tuple[Feed, Piece]]) -> None:
        """More than one write may carry: the session goes on from where it was before, topic by topic."""
        catchup = self._hub.catchup
        for feed, piece in pieces:
            subscription = session.subscriptions.get(feed.topic_id)
            if subscription is not None and subscription.group is feed.shared:
                catchup.admit(subscription, piece.seq - 1)
        catchup.pump(session)

    def _write_streams(self, feed: Feed, piece: Piece) -> None:
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

    def _step_in_waiting(self, feed: Feed) -> None:
        if feed.waiting:
            waiting, feed.waiting = feed.waiting, {}
            for subscription in waiting:
                self._hub.catchup.pump(subscription.session)


def _joined(feed: Feed, piece: Piece) -> bytes:
    return WEBSOCKET.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames)


def _collect(feed: Feed, data: bytes, joins: dict[Session, list[bytes]]) -> None:
    """Adds a topic's bytes to the joins of the sessions that follow several topics."""
    for subscription in feed.shared:
        join = joins.get(subscription.session)
        if join is None:
            joins[subscription.session] = [data]
        else:
            join.append(data)
