"""All sweeps of a gateway: large topics are written in slices, between which the loop has a turn.

In each turn small topics were written before. Then come the sweeps of large topics in `direct` heat, block by block in
turn, and then those of `paced` and `inbox` topics, which share what is left of the slice; they get at least one block a
turn. Messages that come while a sweep runs join the next one.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import Final, NamedTuple

from headgate.core.client.limits import Limits
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.fanout.blocks import Block, Blocks, Group
from headgate.core.fanout.delivered_events import tell_delivered
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.held_messages import HeldMessages
from headgate.core.fanout.pace import DIRECT, INBOX, Pace
from headgate.core.fanout.ports import GatewayMetrics, Moment
from headgate.core.fanout.ring_memory import RingMemory
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.socket_writes import SocketWrites
from headgate.core.fanout.sweep import Sweep
from headgate.core.fanout.topic_counts import GatewayCounts
from headgate.core.wire.link_messages import Amended

Fit = Callable[[TopicFeed, Collection[Subscription], Piece], list[Session]]
RELEASED: Final = 32  # subscribers that waited and are pumped in one step: about a millisecond


class SweepTools(NamedTuple):
    """What sweeps share with the flush of small topics; `add` has a feed flushed, `fit` is as in
    `headgate.core.fanout.flush.Flush`."""

    add: Callable[[TopicFeed], None]
    held: HeldMessages
    rings: RingMemory
    writes: SocketWrites
    counts: GatewayCounts
    metrics: GatewayMetrics
    events: DeliveryEvents
    fit: Fit


class Sweeps:
    """The sweeps of one gateway. `clock` returns monotonic seconds: it is asked after each block.

    A slice is measured from its beginning to the next turn: uvloop writes to the sockets after the callbacks of a turn.
    How many sockets the next slice may write to follows from that.

    Where a topic has as much pending as a ring may hold, its piece is written in one go: the links are read no faster
    than sockets are written, and what is pending stays bounded.
    """

    def __init__(self, limits: Limits, pace: Pace, clock: Callable[[], float], tools: SweepTools) -> None:
        self._limits = limits
        self._pace = pace
        self._clock = clock
        self._tools = tools
        self._wanted: dict[TopicFeed, None] = {}
        self._running: dict[TopicFeed, Sweep] = {}
        self._direct: deque[Sweep] = deque()
        self._paced: deque[Sweep] = deque()
        self._sockets = self._bytes = 0  # of this slice
        self._room = float(pace.plain_sockets)  # sockets of a slice: moves half the way to what was measured
        self._sliced_at: float | None = None  # when the slice of the turn before began

    def __len__(self) -> int:
        """Returns the number of sweeps that run."""
        return len(self._running)

    def __contains__(self, feed: TopicFeed) -> bool:
        return feed in self._running

    @property
    def is_due(self) -> bool:
        """Whether `run` has something to do: to begin, to write, or to measure the last slice."""
        return bool(self._wanted or self._running) or self._sliced_at is not None

    def want(self, feeds: Iterable[TopicFeed]) -> None:
        """Feeds with blocks have messages: each is swept, once its running sweep is over."""
        for feed in feeds:
            sweep = self._running.get(feed)
            if sweep is None:
                self._wanted[feed] = None
            else:
                sweep.is_late = self._has_many(feed)

    def write_out(self, feed: TopicFeed, wall_ms: int) -> None:
        """Puts all that a feed has pending, held or not, behind its running sweep."""
        self._tools.held.write_out(feed, wall_ms)
        self._wanted.pop(feed, None)
        while feed.pending:
            self._take(feed)

    def finish(self, feed: TopicFeed, moment: Moment) -> Generator[list[Session]]:
        """Writes all of a feed to everybody before the end of the turn, in one slice."""
        self.write_out(feed, moment.wall_ms)
        while (sweep := self._running.get(feed)) is not None:
            again = self._step(sweep, moment)
            if again:
                yield again

    def amend(self, feed: TopicFeed, message: Amended) -> None:
        """A message was changed: who has not got it gets it as it is now."""
        sweep = self._running.get(feed)
        if sweep is not None:
            sweep.amend(message)

    def forget(self, feed: TopicFeed) -> None:
        """The feed ended, or begins anew: drops what was not written."""
        self._wanted.pop(feed, None)
        sweep = self._running.pop(feed, None)
        if sweep is not None:
            sweep.is_over = True

    def run(self, moment: Moment, began: float) -> Generator[list[Session]]:
        """Writes one slice, in a turn that began at `began` seconds; yields sessions to pump before the rest."""
        self._measure(began)
        self._begin(moment)
        if not self._running:
            return
        self._sliced_at = began
        touched: dict[Sweep, None] = {}
        try:
            for sweep in self._turn(began):
                touched[sweep] = None
                again = self._step(sweep, moment)
                if again:
                    yield again
        finally:
            for sweep in touched:
                self._count(sweep, moment.wall_ms)

    # Private

    def _measure(self, now: float) -> None:
        """Takes how long the slice of the turn before has held the loop."""
        if self._sliced_at is None:
            return
        took, self._sliced_at = now - self._sliced_at, None
        self._tools.metrics.sliced(took)
        pace = self._pace
        if self._sockets:
            fits = self._sockets * pace.slice_s / took if took > 0 else float(pace.slice_sockets)
            self._room = min((self._room + fits) / 2, float(pace.slice_sockets))

    def _begin(self, moment: Moment) -> None:
        """Begins the sweeps that are due. `paced` and `inbox` topics wait for their time, so that bursts join."""
        wanted, self._wanted = self._wanted, {}
        held = self._tools.held
        for feed in wanted:
            blocks = feed.blocks
            if blocks is None or feed in self._running or not feed.pending:
                continue
            due = blocks.swept_at + self._apart(feed.heat, blocks)
            if moment.now < due:
                held.plan(feed, due)
            elif held.released([feed], moment):
                blocks.swept_at = moment.now
                self._take(feed)

    def _apart(self, heat: str, blocks: Blocks[Subscription]) -> float:
        """Returns how many seconds two sweeps of a topic begin apart at least."""
        if heat == DIRECT:
            return 0.0
        pace = self._pace
        return pace.inbox_s if heat == INBOX else min(blocks.took_s * pace.paced_times, pace.inbox_s)

    def _take(self, feed: TopicFeed) -> None:
        piece = self._tools.rings.take(feed)
        sweep = self._running.get(feed)
        if sweep is None:
            sweep = self._running[feed] = Sweep(feed)
            self._queue_of(sweep).append(sweep)
        sweep.add(piece)
        sweep.is_late = self._has_many(feed)

    def _has_many(self, feed: TopicFeed) -> bool:
        limits = self._limits
        return len(feed.pending) > limits.ring_frames or sum(map(len, feed.pending)) > limits.ring_bytes

    def _queue_of(self, sweep: Sweep) -> deque[Sweep]:
        return self._direct if sweep.feed.heat == DIRECT else self._paced

    def _turn(self, began: float) -> Iterator[Sweep]:
        """Yields who may take a step next until the slice is over: at least one of the paced, and all late ones."""
        self._sockets = self._bytes = 0
        is_paced_served = False
        while (sweep := self._next()) is not None:
            is_paced_served = is_paced_served or sweep.feed.heat != DIRECT
            yield sweep
            if self._is_full or self._clock() - began >= self._pace.slice_s:
                break
        if not is_paced_served and (sweep := _first(self._paced)) is not None:
            self._paced.append(sweep)
            yield sweep
        for sweep in [sweep for sweep in self._running.values() if sweep.is_late]:
            while sweep.is_late and not sweep.is_over:
                yield sweep

    @property
    def _is_full(self) -> bool:
        """Whether the slice has written as much as it may: another block would pass the mark."""
        step = self._pace.block_sockets
        return self._sockets + step > self._room or self._bytes >= self._pace.slice_bytes

    def _next(self) -> Sweep | None:
        """Returns whose turn it is, and puts it at the end of its queue."""
        sweep = _first(self._direct) or _first(self._paced)
        if sweep is not None:
            self._queue_of(sweep).append(sweep)
        return sweep

    def _step(self, sweep: Sweep, moment: Moment) -> list[Session]:
        """Writes one block, or releases some who waited for the piece; returns the sessions to pump."""
        block = sweep.block()
        if block is not None:
            full = self._write(sweep, block)
            if sweep.block() is None:
                self._end_piece(sweep, moment.wall_ms)
                self._end_if_done(sweep, moment)
            return full
        if sweep.pieces:  # nobody is in step any longer
            self._end_piece(sweep, moment.wall_ms)
        released = [subscription.session for subscription in sweep.released(RELEASED)]
        self._sockets += len(released)
        self._end_if_done(sweep, moment)
        return released

    def _write(self, sweep: Sweep, block: Block[Subscription]) -> list[Session]:
        feed = sweep.feed
        data = sweep.data(block.group)
        most = max((self._pace.slice_bytes - self._bytes) // len(data), 1)
        if len(block.members) > most:
            assert feed.blocks is not None
            block = feed.blocks.split(block, most)
        full = self._tools.fit(feed, block.members, sweep.piece) if block.group is Group.ACKED else []
        block.sent = sweep.last
        writers = [*block.members.values()]
        self._tools.writes.write(writers, data)
        sweep.wrote(block, len(writers))
        self._sockets += len(writers)
        self._bytes += len(writers) * len(data)
        if feed.blocks is not None:
            feed.blocks.settle(block)
        return full

    def _count(self, sweep: Sweep, wall_ms: int) -> None:
        """Tells what was written since the last call, per message and slice."""
        if not sweep.fresh:
            return
        feed, piece, count, tools = sweep.feed, sweep.piece, sweep.fresh, self._tools
        for ts in piece.ts:
            tools.metrics.delivered(feed.profile, count, max((wall_ms - ts) / 1000, 0.0))
        tools.counts.delivered(feed, piece.ts, count, wall_ms)
        if feed.counts is not None:
            feed.counts.wrote(piece.seq, sweep.last, count)
        sweep.fresh = 0

    def _end_piece(self, sweep: Sweep, wall_ms: int) -> None:
        feed, piece, tools = sweep.feed, sweep.piece, self._tools
        self._count(sweep, wall_ms)
        if sweep.written:
            tools.metrics.swept(max((wall_ms - piece.ts[0]) / 1000, 0.0))
        if tools.events.on:
            tell_delivered(tools.events, feed, piece, sweep.written - sweep.acknowledging, wall_ms)
        if feed.counts is not None:
            feed.counts.flushed(piece.seq, sweep.last, 0)
        sweep.end_piece()

    def _end_if_done(self, sweep: Sweep, moment: Moment) -> None:
        """Ends a sweep of which everything is written; what came meanwhile is the next one."""
        if not sweep.is_done:
            return
        feed = sweep.feed
        sweep.is_over = True
        del self._running[feed]
        if feed.blocks is not None:
            feed.blocks.took_s = moment.now - feed.blocks.swept_at
        feed.gather()
        if feed.pending:
            self._tools.add(feed)


def _first(queue: deque[Sweep]) -> Sweep | None:
    """Takes the first sweep that is not over from a queue."""
    while queue:
        sweep = queue.popleft()
        if not sweep.is_over:
            return sweep
    return None
