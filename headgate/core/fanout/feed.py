"""A topic on this gateway: its newest frames, what is not yet written, and who is in step; knows no link."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.fanout.session import Session

Write = Callable[[bytes], None]
_SLACK: Final = 4  # a ring is cut when it is a quarter too long, so that the cut is rare


class Piece(NamedTuple):
    """Consecutive messages for one write: `seq` is the first one's number in the feed."""

    seq: int
    ts: list[int]
    frames: list[bytes]


class Ring:
    """The newest frames of a feed: `first` to `first + len(frames) - 1`. Bounded by Limits and by `cut`."""

    __slots__ = ("first", "frames", "size", "ts")

    def __init__(self, first: int) -> None:
        self.first = first
        self.frames: list[bytes] = []
        self.ts: list[int] = []
        self.size = 0

    def extend(self, piece: Piece, size: int, limits: Limits) -> None:
        """Takes a piece that follows on what is there, and forgets the oldest beyond the bounds."""
        self.frames += piece.frames
        self.ts += piece.ts
        self.size += size
        spare = 1 + 1 / _SLACK
        if len(self.frames) > limits.ring_frames * spare or self.size > limits.ring_bytes * spare:
            self._trim(limits.ring_frames, limits.ring_bytes)

    def after(self, cursor: int, limits: Limits) -> Piece | None:
        """Returns a piece that follows on `cursor`, None when the ring begins later or has nothing above it."""
        at = cursor + 1 - self.first
        if not 0 <= at < len(self.frames):
            return None
        count = fitting(self.frames, at, limits)
        return Piece(cursor + 1, self.ts[at : at + count], self.frames[at : at + count])

    def clear(self) -> int:
        """Forgets everything and returns the bytes given back; the process has no room for it."""
        size = self.size
        self._drop(len(self.frames), size)
        return size

    def _trim(self, max_frames: int, max_size: int) -> None:
        count = max(len(self.frames) - max_frames, 0)
        gone = sum(map(len, self.frames[:count]))
        while self.size - gone > max_size:
            gone += len(self.frames[count])
            count += 1
        self._drop(count, gone)

    def _drop(self, count: int, size: int) -> None:
        del self.frames[:count], self.ts[:count]
        self.first += count
        self.size -= size


class Subscription:
    """A session's place in a feed. In step: `group` is where its writer stands, and nothing else is kept.

    Out of step it has a `cursor` (the last number handed to the socket). `target` is the head when it was granted:
    `caught_up` is due (`says_when`) once the cursor has reached it. `was_in_step` lets `on_slow` apply; `mark` is the
    feed's byte count at the cursor.
    """

    __slots__ = ("cursor", "feed", "fetching", "group", "mark", "says_when", "session", "target", "was_in_step")

    def __init__(self, session: Session, feed: "Feed", cursor: int, target: int, *, says_when: bool) -> None:
        self.session = session
        self.feed = feed
        self.cursor = cursor
        self.target = target
        self.says_when = says_when
        self.was_in_step = False
        self.fetching = False
        self.mark = feed.size
        self.group: dict[Subscription, Write] | None = None

    def step_in(self) -> None:
        """Live from here: the cursor stands where the feed's writes stand."""
        feed, session = self.feed, self.session
        feed.behind.pop(self, None)
        if session.framing is not WEBSOCKET:
            group = feed.streams
        else:
            group = feed.sockets if len(session.subscriptions) == 1 else feed.shared
        self.group = group
        self.was_in_step = True
        group[self] = session.outlet.write

    def step_out(self, cursor: int | None = None) -> None:
        """Parks at what was written so far, or at `cursor` when the last piece was not."""
        if self.group is not None:
            del self.group[self]
            self.group = None
            self.cursor = self.feed.sent if cursor is None else cursor
            self.mark = self.feed.size
        self.feed.behind[self] = None


class Feed:
    """Numbers are the topic's seqs; an ephemeral topic counts its own from 1, which no client sees.

    `head` is the newest message received, `sent` the newest written: what lies between is pending. In step are
    `sockets` (WebSockets that follow this topic only), `shared` (that follow several) and `streams` (SSE).
    `hole` is above `head` while messages between them are missing and being fetched. `waiting` are those of `behind`
    whose cursor is ahead of `sent`: the next flush brings them into step.
    """

    __slots__ = (
        "behind", "durable", "epoch", "filling", "head", "hole", "on_slow", "pending", "pending_ts", "ring", "sent",
        "shard", "shared", "size", "sockets", "streams", "topic_id", "tries", "waiting",
    )  # fmt: skip

    def __init__(self, topic_id: str, shard: int, epoch: int, head: int, settings: dict[str, Any]) -> None:
        self.topic_id = topic_id
        self.shard = shard
        self.epoch = epoch
        self.durable = settings.get("profile", "durable") == "durable"
        self.on_slow: str = settings.get("on_slow") or ("disconnect" if self.durable else "drop_oldest")
        self.head = self.sent = self.hole = head
        self.filling = False
        self.tries = 0
        self.size = 0
        self.pending: list[bytes] = []
        self.pending_ts: list[int] = []
        self.ring = Ring(head + 1)
        self.sockets: dict[Subscription, Write] = {}
        self.shared: dict[Subscription, Write] = {}
        self.streams: dict[Subscription, Write] = {}
        self.behind: dict[Subscription, None] = {}
        self.waiting: dict[Subscription, None] = {}

    @property
    def profile(self) -> str:
        """The topic's profile, as metrics and `subscribed` name it."""
        return "durable" if self.durable else "ephemeral"

    @property
    def in_step(self) -> int:
        """How many sockets the next flush writes to."""
        return len(self.sockets) + len(self.shared) + len(self.streams)

    @property
    def count(self) -> int:
        """How many subscriptions there are."""
        return self.in_step + len(self.behind)

    def subscriptions(self) -> list[Subscription]:
        """Returns all of them."""
        return [*self.sockets, *self.shared, *self.streams, *self.behind]

    def append(self, seq: int, ts: list[int], frames: list[bytes]) -> bool:
        """Takes messages from the link. Returns false when some before them are missing: `hole` then tells how far.

        Those that are here already are dropped (a second owner, a second attach).
        """
        last = seq + len(frames) - 1
        if seq > self.head + 1:
            self.hole = max(self.hole, last)
            return False
        known = self.head + 1 - seq
        if known < len(frames):
            self.pending += frames[known:] if known else frames
            self.pending_ts += ts[known:] if known else ts
            self.head = last
        return True

    def take(self, limits: Limits) -> Piece:
        """Moves the oldest pending messages, as many as one write may carry, behind `sent` and into the ring."""
        count = fitting(self.pending, 0, limits)
        piece = Piece(self.sent + 1, self.pending_ts[:count], self.pending[:count])
        if count == len(self.pending):
            self.pending, self.pending_ts = [], []
        else:
            del self.pending[:count], self.pending_ts[:count]
        size = sum(map(len, piece.frames))
        self.size += size
        self.sent += count
        self.ring.extend(piece, size, limits)
        return piece

    def skip(self, seq: int) -> None:
        """Goes on at `seq`: what lies below it will never come. Nothing may be pending."""
        self.head = self.sent = seq - 1
        self.ring = Ring(seq)


def fitting(frames: list[bytes], at: int, limits: Limits) -> int:
    """Returns how many frames from `at` on make one piece: at least one, else what the limits allow a write."""
    count, most = min(len(frames) - at, limits.piece_frames), limits.piece_bytes
    if sum(map(len, frames[at : at + count])) <= most:
        return count
    size = fit = 0
    for frame in frames[at : at + count]:
        size += len(frame)
        if size > most and fit:
            break
        fit += 1
    return fit
