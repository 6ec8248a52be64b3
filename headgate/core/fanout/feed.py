"""A topic on this gateway: its newest messages, those not written yet, and its subscribers in and out of step."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from headgate.core.client.limits import Limits
from headgate.core.delivery.strategy import strategy_of
from headgate.core.fanout.blocks import Blocks, Group
from headgate.core.fanout.hold import Hold
from headgate.core.fanout.pace import DEFAULT_PACE, DIRECT, Pace
from headgate.core.fanout.piece_counts import PieceCounts
from headgate.core.wire.amended_frames import amend
from headgate.core.wire.link import Attach, AttachTopic, Fetch, Request
from headgate.core.wire.topic_settings import DEFAULT_RETRY

S = TypeVar("S")
Write = Callable[[bytes], None]
ATTACH_CHUNK: Final = 1_000  # topics: about 50 KB on the link
_AT_ONCE: Final = {"kind": "immediate"}
_SPARE: Final = 1.25  # a ring is cut when it is a quarter too long, so that the cut is rare


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Consecutive messages for one write: `seq` is the first one's number in the feed."""

    seq: int
    ts: list[int]
    frames: list[bytes]


class Ring:
    """The newest frames of a feed: `first` to `first + len(frames) - 1`. Bounded by Limits and by `cut`.

    `version` is another one after each change.
    """

    __slots__ = ("first", "frames", "size", "ts", "version")

    def __init__(self, first: int) -> None:
        self.first = first
        self.frames: list[bytes] = []
        self.ts: list[int] = []
        self.size = 0
        self.version = 0

    def extend(self, piece: Piece, size: int, limits: Limits) -> None:
        """Takes a piece that begins after the newest frame, and forgets the oldest beyond the bounds."""
        self.frames += piece.frames
        self.ts += piece.ts
        self.size += size
        self.version += 1
        if len(self.frames) > limits.ring_frames * _SPARE or self.size > limits.ring_bytes * _SPARE:
            self._trim(limits.ring_frames, limits.ring_bytes)

    def after(self, cursor: int, limits: Limits) -> Piece | None:
        """Returns the piece above `cursor`, None when the ring begins later or has nothing above it."""
        at = cursor + 1 - self.first
        if not 0 <= at < len(self.frames):
            return None
        count = fitting(self.frames, at, limits)
        return Piece(cursor + 1, self.ts[at : at + count], self.frames[at : at + count])

    def amend(self, seq: int, frame: bytes, *, redacted: bool, limits: Limits) -> None:
        """Replaces a message by what it is now; without a `frame` forgets all up to one that was not redacted."""
        self.version += 1
        if frame or redacted:
            self.size += amend(self.frames, self.first, seq, frame, redacted=redacted)
            self._trim(limits.ring_frames, limits.ring_bytes)
        else:
            count = min(max(seq + 1 - self.first, 0), len(self.frames))
            self._drop(count, sum(map(len, self.frames[:count])))

    def clear(self) -> int:
        """Forgets everything and returns how many bytes that freed."""
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
        self.version += 1
        self.first += count
        self.size -= size


class Feed(Generic[S]):
    """The messages of one topic. `S` is a subscription; the feed only lists and counts them.

    Numbers are the topic's seqs; an ephemeral topic is counted from 1 here, which no client sees.

    `head` is the newest message received, `sent` the newest written; the messages between them are pending. `hole` is
    above `head` while messages between the two are missing. `size` counts the bytes written so far.

    In step are `sockets` (WebSockets that follow this topic only), `shared` (WebSockets that follow several),
    `streams` (SSE) and `acked` (WebSockets that acknowledge, whose windows have room), each with the function that
    writes to it; all others are in `behind`. `waiting` indexes those of `behind` that the next flush must look at: a
    flush costs nothing for the rest. `blocks` has those in step of a topic that is swept in slices, in place of the
    four groups; None for others. `in_step` is how many they are. `joined` are the sessions of `shared` and `acked`, as
    the flush listed them; None once those have changed. `heat` is that of the topic
    (`headgate.core.wire.link_inbox.TopicHeat`).

    `hold` is of a topic whose strategy holds messages, None for others. `counts` are of messages whose publishers wait
    for their delivery, None for none. `fence` is the number of the
    topic's newest fence (`headgate.core.wire.link_members.Fence`) that is known here.
    """

    __slots__ = (
        "_pace", "acked", "behind", "blocks", "counts", "durable", "epoch", "fence", "head", "heat", "hold", "hole",
        "in_step", "joined", "on_slow", "pending", "pending_ts", "retry", "ring", "sent", "shard", "shared", "size",
        "sockets", "streams", "topic_id", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        topic_id: str,
        shard: int,
        epoch: int,
        head: int,
        settings: dict[str, Any],
        fence: int = 0,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self.topic_id = topic_id
        self.shard = shard
        self.epoch = epoch
        self.durable = settings.get("profile", "durable") == "durable"
        self.fence = fence
        self.hold: Hold | None = None
        self.configure(settings)
        self.head = self.sent = self.hole = head
        self.size = 0
        self.pending: list[bytes] = []
        self.pending_ts: list[int] = []
        self.ring = Ring(head + 1)
        self.sockets: dict[S, Write] = {}
        self.shared: dict[S, Write] = {}
        self.streams: dict[S, Write] = {}
        self.acked: dict[S, Write] = {}
        self.behind: dict[S, None] = {}
        self.waiting: dict[S, None] = {}
        self.counts: PieceCounts | None = None
        self.blocks: Blocks[S] | None = None
        self.heat = DIRECT
        self._pace = pace
        self.in_step = 0
        self.joined: list[Any] | None = None

    def configure(self, settings: dict[str, Any]) -> None:
        """Takes the topic's effective settings; `profile` never changes."""
        self.retry: dict[str, Any] = settings.get("retry") or DEFAULT_RETRY
        self.on_slow: str = settings.get("on_slow") or ("disconnect" if self.durable else "drop_oldest")
        strategy = settings.get("strategy", _AT_ONCE)
        if self.hold is not None:
            self.hold.swap(strategy_of(strategy))
        elif strategy["kind"] != "immediate":
            self.hold = Hold(strategy_of(strategy))

    @property
    def profile(self) -> str:
        """The topic's profile, as metrics and `subscribed` name it."""
        return "durable" if self.durable else "ephemeral"

    @property
    def is_incomplete(self) -> bool:
        """Whether newer messages are missing here."""
        return self.durable and self.hole > self.head

    @property
    def count(self) -> int:
        """How many subscriptions there are."""
        return self.in_step + len(self.behind)

    @property
    def is_ready(self) -> bool:
        """Whether there are pending messages that are not held."""
        return bool(self.pending) and (self.hold is None or self.hold.count < len(self.pending))

    def fenced(self, fence: int) -> bool:
        """Takes the number of a fence; returns whether it is newer than the newest known."""
        newer = fence > self.fence
        if newer:
            self.fence = fence
        return newer

    def subscriptions(self) -> list[S]:
        """Returns all subscriptions, those in step first."""
        return [*self.live(), *self.behind]

    def live(self) -> list[S]:
        """Returns the subscriptions in step."""
        if self.blocks is not None:
            return list(self.blocks)
        return [*self.sockets, *self.shared, *self.streams, *self.acked]

    def begin(self, subscription: S) -> None:
        """Takes a new subscription; it is out of step."""
        self.behind[subscription] = None

    def step_in(self, subscription: S, group: Group, write: Write) -> None:
        """Moves a subscription that was written all up to `sent` from `behind` into one of the groups in step."""
        del self.behind[subscription]
        self.in_step += 1
        self.joined = None
        if self.blocks is not None:
            self.blocks.add(subscription, group, write, self.sent)
            return
        self._groups[group][subscription] = write
        if self.in_step > self._pace.plain_sockets:
            self._divide()

    def share(self, subscription: S) -> None:
        """Moves a subscription in step from `sockets` to `shared`; one of another group stays there."""
        if self.blocks is not None:
            self.blocks.share(subscription)
            return
        write = self.sockets.pop(subscription, None)
        if write is not None:
            self.shared[subscription] = write
            self.joined = None

    def step_out(self, subscription: S) -> None:
        """Moves a subscription out of step."""
        self.remove(subscription)
        self.behind[subscription] = None

    def remove(self, subscription: S) -> None:
        """Forgets a subscription, which is in step or in `behind`."""
        self.joined = None
        if self.blocks is not None and self.blocks.remove(subscription):
            self.in_step -= 1
            return
        for group in self._groups:
            if group.pop(subscription, None) is not None:
                self.in_step -= 1
                return
        self.behind.pop(subscription, None)
        self.waiting.pop(subscription, None)

    def cursor_of(self, subscription: S) -> int:
        """Returns the number of the newest message written to a subscription in step."""
        return self.sent if self.blocks is None else self.blocks.cursor(subscription)

    def lowest_in_step(self) -> int:
        """Returns the number up to which all in step have what they get."""
        return self.head if self.blocks is None else self.blocks.lowest(self.head)

    def warm(self, heat: str) -> None:
        """Takes the topic's heat: all but `direct` is swept in slices from now on."""
        self.heat = heat
        if heat != DIRECT and self.blocks is None:
            self._divide()

    def gather(self) -> None:
        """No sweep runs: where few are left in a topic in `direct` heat, it is written without slices again."""
        blocks = self.blocks
        if blocks is not None and self.heat == DIRECT and len(blocks) <= self._pace.plain_sockets // 2:
            self.blocks = None
            for subscription, group, write in blocks.everyone():
                self._groups[group][subscription] = write
            self.joined = None

    @property
    def _groups(self) -> tuple[dict[S, Write], ...]:
        return self.sockets, self.shared, self.streams, self.acked

    def _divide(self) -> None:
        """Puts those in step into blocks."""
        self.blocks = Blocks(self._pace.block_sockets)
        for group, members in zip(Group, self._groups, strict=True):
            for subscription, write in members.items():
                self.blocks.add(subscription, group, write, self.sent)
            members.clear()
        self.joined = None

    def append(self, seq: int, ts: list[int], frames: list[bytes]) -> bool:
        """Takes messages from the link; false when some before them are missing: `hole` is then the last of those.

        Those that are here already are dropped: after a change of owners they may come twice.
        """
        known = self.head + 1 - seq
        if known < 0:
            self.misses(seq + len(frames) - 1)
            return False
        if known < len(frames):
            self.pending += frames[known:] if known else frames
            self.pending_ts += ts[known:] if known else ts
            self.head = seq + len(frames) - 1
        return True

    def misses(self, seq: int) -> bool:
        """Notes that messages up to `seq` exist; true when some of them are missing here."""
        self.hole = max(self.hole, seq)
        return seq > self.head

    def after(self, cursor: int, limits: Limits) -> Piece | None:
        """Returns the piece of the ring above `cursor`, None when the ring begins later or has nothing above it.

        None too while newer messages are missing here: one of them may have changed a message of the ring.
        """
        return None if self.is_incomplete else self.ring.after(cursor, limits)

    def take(self, limits: Limits) -> Piece:
        """Moves the oldest pending messages, as many as one write may carry, into the ring and returns them.

        Some of them are not held (`is_ready`).
        """
        pending = self.pending
        count, size = len(pending), sum(map(len, pending))
        few = count == 1 or (count <= limits.piece_frames and size <= limits.piece_bytes)
        if few and self.hold is None:  # nearly always: all of them, without a copy
            piece = Piece(self.sent + 1, self.pending_ts, pending)
            self.pending, self.pending_ts = [], []
        else:
            count = fitting(pending, 0, limits)
            if self.hold is not None:
                count = min(count, len(pending) - self.hold.count)
            piece = Piece(self.sent + 1, self.pending_ts[:count], pending[:count])
            del pending[:count], self.pending_ts[:count]
            size = sum(map(len, piece.frames))
        self.size += size
        self.sent += count
        self.ring.extend(piece, size, limits)
        return piece

    def amend(self, seq: int, frame: bytes, *, redacted: bool, limits: Limits) -> None:
        """Takes what a message is now: what is held of it here, and not written yet, is replaced."""
        self.ring.amend(seq, frame, redacted=redacted, limits=limits)
        if frame or redacted:
            amend(self.pending, self.sent + 1, seq, frame, redacted=redacted)

    def skip(self, seq: int) -> None:
        """Continues at `seq`: the messages below it will never come. Nothing may be pending."""
        self.head = self.sent = seq - 1
        self.ring = Ring(seq)
        if self.blocks is not None:
            self.blocks.skip(self.sent)


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


def page_request(feed: Feed[Any], after_seq: int, limits: Limits, req: int) -> Request:
    """Returns the request for one page of the messages above `after_seq`."""
    return Fetch(req, feed.topic_id, feed.epoch, after_seq, limits.piece_frames, limits.piece_bytes)


def attach(shard: int, feeds: Sequence[Feed[Any]]) -> list[Attach]:
    """Returns the messages that tell a new owner of `shard` which of its topics are followed here, and from where."""
    topics = [AttachTopic(f.topic_id, f.epoch, f.head if f.durable else 0, f.count, f.fence) for f in feeds]
    chunks = [topics[at : at + ATTACH_CHUNK] for at in range(0, len(topics), ATTACH_CHUNK)] or [[]]
    return [Attach(shard, at == 0, at == len(chunks) - 1, chunk) for at, chunk in enumerate(chunks)]
