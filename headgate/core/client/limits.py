"""The bounds of a gateway (docs/protocol.md, sections 3, 4 and 7) with their defaults."""

from typing import Final

import msgspec

MAX_TOPICS: Final = 1_000  # docs/protocol.md, section 7: whatever the setting is
MAX_HIGH_WATER: Final = (
    64 * 1024
)  # a few hundred frames; buffering more here only adds memory: the kernel's buffer is full already
FETCHES: Final = 2  # pages one session waits for at a time: each may be 256 KiB when it arrives


class Limits(msgspec.Struct, frozen=True):
    """Durations in seconds, sizes in bytes, rates a second."""

    topics: int = 128
    frame_bytes: int = 64 * 1024
    control_per_s: float = 10.0
    control_burst: int = 150
    control_patience_s: float = 10.0
    frames_per_s: float = 100.0  # pings, pongs, fragments
    frames_burst: int = 1_000
    queue_bytes: int = 1024 * 1024
    queue_frames: int = 1_000
    connections: int = 100_000
    connections_per_user: int = 20
    reads_per_user_per_min: int = 600
    ring_frames: int = 1_000
    ring_bytes: int = 1024 * 1024
    rings_bytes: int = 128 * 1024 * 1024
    slow_messages: int = 10_000
    slow_bytes: int = 64 * 1024 * 1024
    ack_window: int = 256  # messages of one subscription that are not acknowledged
    ack_breaker_failures: int = 10  # in a row
    ack_breaker_s: float = 30.0
    auth_s: float = 5.0
    head_s: float = 10.0
    head_bytes: int = 64 * 1024
    hold_s: float = 30.0
    heartbeat_s: float = 30.0
    heartbeat_missed: int = 2
    comment_s: float = 15.0
    expiry_warning_s: float = 60.0

    @property
    def topics_allowed(self) -> int:
        """Topics a connection may follow."""
        return min(self.topics, MAX_TOPICS)

    @property
    def high_water(self) -> int:
        """Queued bytes above which a session is parked: with a piece or page on top it stays below `queue_bytes`."""
        return min(MAX_HIGH_WATER, self.queue_bytes // 4)

    @property
    def low_water(self) -> int:
        """Queued bytes at which a parked session is written to again."""
        return self.high_water // 4

    @property
    def piece_bytes(self) -> int:
        """Bytes of one write of one topic, and of one page."""
        return self.queue_bytes // 4

    @property
    def piece_frames(self) -> int:
        """Frames of one write of one topic, and of one page."""
        return max(self.queue_frames // 2, 1)

    @property
    def dead_s(self) -> float:
        """A connection from which nothing came, or whose socket took nothing, for so long is dead."""
        return self.heartbeat_s * self.heartbeat_missed

    def told(self) -> dict[str, int | float]:
        """Returns the member `limits` of the welcome frame."""
        return {
            "topics": self.topics_allowed,
            "frame_bytes": self.frame_bytes,
            "control_frames_per_s": self.control_per_s,
            "control_frames_burst": self.control_burst,
            "queue_bytes": self.queue_bytes,
            "queue_frames": self.queue_frames,
            "slow_messages": self.slow_messages,
            "slow_bytes": self.slow_bytes,
            "ack_window": self.ack_window,
        }
