"""What a subscription with `ack` has beside its place in the feed: its window, its replays, its reported cursor."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from headgate.core.client.outbound import FrameId
from headgate.core.delivery.ack_window import AckWindow, Sending
from headgate.core.delivery.replays import Replays
from headgate.core.delivery.retry import Draw
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.session import Subscription
from headgate.core.wire.frames import frame_again
from headgate.core.wire.link_acks import Cursor, CursorLease
from headgate.core.wire.link_dead_letters import Receiver


class AckTimes(Protocol):
    """The owner of all acknowledged subscriptions, as one of them needs it."""

    def plan(self, acks: "SubscriptionAcks") -> None:
        """Plans the next visit."""

    def visit(self, acks: "SubscriptionAcks") -> None:
        """Does what is due."""


class AckTools(NamedTuple):
    """What all share: the time of the call in seconds, the randomness of retries, and who is told what is sent."""

    clock: Callable[[], float]
    draw: Draw
    sent: "Callable[[SubscriptionAcks, Piece, Sequence[Sending]], None]"


class SubscriptionAcks:
    """The acknowledgements of one subscription, made at its grant.

    `shard` is that of its user. `version` counts the changes of its cursor, `stored` is the newest of them that is in
    the log, `failed` the one with the newest failure, and `waiting` are ids of frames that are answered once a version
    is stored. `planned` is when the wheel comes by next: it is an item of the wheel
    (`headgate.core.fanout.wheel.Visited`), `entries` times.
    """

    __slots__ = (
        "_times", "_tools", "entries", "failed", "lease", "planned", "replays", "shard", "stored", "subscription",
        "version", "waiting", "window",
    )  # fmt: skip

    def __init__(
        self,
        subscription: Subscription,
        window: AckWindow,
        lease: CursorLease,
        shard: int,
        times: AckTimes,
        tools: AckTools,
    ) -> None:
        self.subscription = subscription
        self.window = window
        self.lease = lease
        self.shard = shard
        self.replays: Replays | None = None
        self.version = 0
        self.stored = 0
        self.failed = 0
        self.waiting: list[tuple[int, FrameId]] | None = None
        self.planned: float | None = None
        self.entries = 0
        self._times = times
        self._tools = tools

    @property
    def newest(self) -> int:
        """The number of the newest message that was sent."""
        return self.window.sent

    @property
    def place(self) -> int:
        """The number of the message before the one that is sent next."""
        return self.window.next - 1

    @property
    def is_plain(self) -> bool:
        """Whether nothing failed and nothing comes again."""
        return self.window.is_plain

    @property
    def key(self) -> tuple[str, str, str]:
        """Whose cursor it is: user, device, topic."""
        return self.lease.user_id, self.lease.device_id, self.lease.topic_id

    @property
    def receiver(self) -> Receiver:
        """Whom its dead letters name."""
        return Receiver(self.lease.user_id, self.lease.device_id)

    @property
    def is_noted(self) -> bool:
        """Whether the log knows of every failure after which a message comes again."""
        return self.failed <= self.stored or self.window.is_plain

    @property
    def may_write(self) -> bool:
        """Whether a message may be written to the socket now."""
        subscription, session = self.subscription, self.subscription.session
        return not (
            subscription.is_over or subscription.is_fenced or session.paused or session.closed or self.window.is_open
        )

    def cursor(self) -> Cursor:
        """Returns the cursor as it is now."""
        window, lease = self.window, self.lease
        epoch = self.subscription.feed.epoch
        if window.is_plain:
            return Cursor(lease.user_id, lease.device_id, lease.topic_id, epoch, window.acked)
        return Cursor(*self.key, epoch, window.acked, window.above(), window.attempts())

    def may_send(self) -> bool:
        """Sets the subscription's cursor to where the window is; returns whether a message above it may be sent now."""
        window, subscription = self.window, self.subscription
        subscription.skip_to(window.next - 1)
        return self.is_noted and window.limit(self._tools.clock()) >= window.next

    def take(self, piece: Piece) -> list[bytes]:
        """Notes that as much of a piece is sent as the window takes; returns the frames to write."""
        window, now = self.window, self._tools.clock()
        last = min(window.limit(now), piece.seq + len(piece.frames) - 1)
        if not (self.is_noted and piece.seq <= window.next <= last):
            return []
        sendings = window.send(last, now, self._tools.draw)
        self._tools.sent(self, piece, sendings)
        self._times.plan(self)
        return [frame_again(piece.frames[each.seq - piece.seq], each.attempt) for each in sendings]

    def take_back(self, seq: int) -> None:
        """The new messages from `seq` on were not written after all."""
        self.window.take_back(seq)

    def lose(self, seq: int) -> None:
        """The messages up to `seq` are kept no longer, and a gap frame said so."""
        self.window.lose(seq, self._tools.clock(), self._tools.draw)

    def store(self, version: int) -> None:
        """The log has a version of the cursor: what waited for that is sent."""
        waited = not self.is_noted
        self.stored = max(self.stored, version)
        if waited and self.is_noted and not self.subscription.is_over:
            self._times.visit(self)

    def replan(self) -> None:
        """Plans the next visit: something was sent."""
        self._times.plan(self)

    def due(self, now: float) -> float | None:
        """Returns when to come by next."""
        due = self.window.due(now)
        if self.replays is None:
            return due
        return min((each for each in (due, self.replays.due(now)) if each is not None), default=None)

    def visit(self, now: float) -> float | None:
        """Does what is due; plans the next visit itself.

        The last entry may come too early, where the loop stood still before it was made: it is put back.
        """
        self.entries -= 1
        if self.planned is None or self.subscription.is_over:
            return None
        if now >= self.planned:
            self.planned = None
            self._times.visit(self)
        elif not self.entries:
            self.entries = 1
            return self.planned
        return None
