"""One client connection as values: who it is, what it follows, what it waits for; knows neither sockets nor links."""

from typing import TYPE_CHECKING, Protocol

from headgate.core.client.framing import ClientFrame, Framing
from headgate.core.client.inbound import Allowance, Subscribe
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import CLOSE_REASONS, disconnect
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller

if TYPE_CHECKING:  # a session holds its subscriptions, a subscription its session
    from headgate.core.fanout.deadlines import Deadlines
    from headgate.core.fanout.feed import Subscription, Write
    from headgate.core.fanout.pending import PendingSubscribe


class Outlet(Protocol):
    """The socket of a session. None of these waits, and none calls back but `write`, which may cause a park."""

    @property
    def write(self) -> "Write":
        """What takes a frame's bytes: the transport's own function where there is one."""

    def queued(self) -> int:
        """Returns the bytes the socket has not yet taken."""

    def end(self, code: int, reason: str) -> None:
        """Says goodbye in the framing's way (a close frame, the end of the body) and closes what stays open."""

    def refuse(self, refusal: Refusal) -> None:
        """Answers an SSE request that never became a stream with an HTTP status."""


class Session:
    """A connection that was admitted, or (`caller` None) one whose `auth` frame is awaited.

    `behind` are its subscriptions out of step, `paused` says that its socket takes no more at the moment. `preface`
    goes before the first frame (the head of an SSE answer). `wanted` are the topics of the query that were not asked
    for yet, `turn` is the one whose answer comes next, `asking` says that they are being asked for just now.
    `frames_until` is when the frames that came would have come at the allowed rate. Times are monotonic seconds.
    """

    __slots__ = (
        "admitted_at", "allowance", "asked", "asking", "beat_at", "behind", "caller", "closed", "connection_id",
        "deadline", "expires", "frames_until", "framing", "heard_at", "outlet", "paused", "preface", "queued",
        "stalled_at", "subscriptions", "turn", "vigil", "wanted", "warned",
    )  # fmt: skip

    def __init__(self, outlet: Outlet, framing: Framing, connection_id: str, now: float) -> None:
        self.outlet = outlet
        self.framing = framing
        self.connection_id = connection_id
        self.caller: Caller | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.asked: dict[str, PendingSubscribe] | None = None
        self.behind: dict[Subscription, None] | None = None
        self.allowance: Allowance | None = None
        self.wanted: list[tuple[str, Subscribe | Refusal]] | None = None
        self.turn: PendingSubscribe | None = None
        self.asking = False
        self.vigil: Deadlines | None = None
        self.preface = b""
        self.paused = False
        self.closed = False
        self.warned = False
        self.admitted_at = now
        self.heard_at = now
        self.beat_at = now
        self.stalled_at = now
        self.frames_until = now
        self.queued = 0
        self.deadline: float | None = None
        self.expires: float | None = None

    def emit(self, *frames: ClientFrame) -> None:
        """Writes frames that are not messages, in one write."""
        control = self.framing.control
        data = b"".join([control(frame) for frame in frames]) if len(frames) > 1 else control(frames[0])
        self.put(data)

    def put(self, data: bytes) -> None:
        """Writes bytes that only this session gets."""
        if self.closed:
            return
        if self.preface:
            data, self.preface = self.preface + data, b""
        self.queued += len(data)  # what is ours is no sign of a socket that takes nothing
        self.outlet.write(data)

    def leave(self, code: int, retry_after_ms: int | None = None, reason: str | None = None) -> None:
        """Sends `disconnect` and ends the connection. The hub has let go of the session before."""
        frame = disconnect(code, retry_after_ms=retry_after_ms, reason=reason)
        self.emit(frame)
        self.finish(code, reason or CLOSE_REASONS[code])

    def finish(self, code: int, reason: str) -> None:
        """Ends the connection without a word of ours."""
        if not self.closed:
            self.closed = True
            self.outlet.end(code, reason)

    def visit(self, now: float) -> float | None:
        """Does what is due at `now`; see `headgate.core.fanout.wheel.Visited`."""
        return None if self.vigil is None else self.vigil.visit(self, now)

    def follows(self, topic_id: str) -> bool:
        """Says whether the topic is subscribed, asked for, or wanted."""
        return self.holds(topic_id) or topic_id in self._wishes()

    @property
    def topics(self) -> int:
        """How many topics are subscribed, asked for, or wanted."""
        return self.held + len(self._wishes())

    def holds(self, topic_id: str) -> bool:
        """Says whether the topic is subscribed, or asked for."""
        return topic_id in self.subscriptions or (self.asked is not None and topic_id in self.asked)

    @property
    def held(self) -> int:
        """How many topics are subscribed or asked for."""
        return len(self.subscriptions) + (len(self.asked) if self.asked is not None else 0)

    def unwish(self, topic_id: str) -> bool:
        """Takes a topic out of `wanted`; false when it is not there."""
        if topic_id not in self._wishes():
            return False
        wanted = self.wanted or []
        self.wanted = [wish for wish in wanted if wish[0] != topic_id or isinstance(wish[1], Refusal)]
        return True

    def _wishes(self) -> set[str]:
        return {topic_id for topic_id, wish in self.wanted or () if not isinstance(wish, Refusal)}

    def counts_frame(self, now: float, limits: Limits) -> bool:
        """Counts a frame that is no whole message (ping, pong, fragment); false when there are too many of them.

        The generic cell rate algorithm (ITU-T I.371): a token bucket in one number, as every session has it.
        """
        self.frames_until = max(self.frames_until, now) + 1 / limits.frames_per_s
        return self.frames_until - now <= limits.frames_burst / limits.frames_per_s

    def took(self, now: float) -> bool:
        """Says whether the socket has taken a byte since the last call, or had none to take."""
        queued = self.outlet.queued()
        moved = queued == 0 or queued < self.queued
        self.queued = queued
        if moved:
            self.stalled_at = now
        return moved
