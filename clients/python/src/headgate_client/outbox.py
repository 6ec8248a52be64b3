"""The frames that wait to be sent: kept below the server's rate, and no `ack` for which another one stands. Pure."""

from collections import deque
from typing import Final

from headgate_client.errors import ClientError
from headgate_client.frames import Frame

MAX_FRAMES: Final = 4_000  # 1,000 topics, each with a subscribe, an ack and two more
RATE_SHARE: Final = 0.8  # of the server's rate: clocks differ, and a frame too many is not obeyed
FRAMES_PER_S: Final = 10.0  # docs/protocol.md, section 7; `welcome` says what holds
FRAMES_BURST: Final = 150


class OutboxFull(ClientError):
    """So many frames wait that the application sends far more than the server takes."""


class Outbox:
    """Frames in the order in which they were put. `now` is in seconds of any clock that never goes back."""

    def __init__(self) -> None:
        self._waiting: deque[Frame] = deque()
        self._acks: dict[str, tuple[Frame, int]] = {}  # the topic's last frame and its order, where it is a plain ack
        self._per_s = FRAMES_PER_S * RATE_SHARE
        self._burst = FRAMES_BURST * RATE_SHARE
        self._tokens = self._burst
        self._at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def opened(self, now: float) -> None:
        """A new connection: nothing of the old one is sent, and the whole burst is there."""
        self._waiting.clear()
        self._acks.clear()
        self._tokens, self._at = self._burst, now

    def limits(self, per_s: float, burst: float) -> None:
        """Takes the rate that `welcome` names."""
        spent = self._burst - self._tokens
        self._per_s, self._burst = per_s * RATE_SHARE, max(burst * RATE_SHARE, 1.0)
        self._tokens = self._burst - spent

    def put(self, frame: Frame) -> None:
        """Adds a frame. The member `order` of an `ack` is not sent: without an id the `ack` stands for each with a
        lower `seq` and a lower order, and takes the place of the topic's last frame where that is one. Raises
        OutboxFull."""
        topic = frame.get("topic_id", "")
        order = frame.pop("order", None)
        last = self._acks.get(topic)
        if order is not None and last is not None and (frame["seq"] >= last[0]["seq"]) == (order >= last[1]):
            last[0]["seq"] = max(last[0]["seq"], frame["seq"])
            self._acks[topic] = last[0], max(last[1], order)
            return
        if len(self._waiting) >= MAX_FRAMES:
            raise OutboxFull(f"{MAX_FRAMES} frames wait to be sent")
        self._waiting.append(frame)
        if order is not None:
            self._acks[topic] = frame, order
        else:
            self._acks.pop(topic, None)

    def take(self, now: float) -> Frame | None:
        """Returns the next frame that may be sent now."""
        self._tokens = min(self._tokens + (now - self._at) * self._per_s, self._burst)
        self._at = now
        if not self._waiting or self._tokens < 1.0:
            return None
        self._tokens -= 1.0
        frame = self._waiting.popleft()
        topic = frame.get("topic_id", "")
        if topic in self._acks and self._acks[topic][0] is frame:
            del self._acks[topic]
        return frame

    def wait_s(self) -> float | None:
        """Seconds after the last `take` until a frame may be sent, None where none waits."""
        if not self._waiting:
            return None
        return max(1.0 - self._tokens, 0.0) / self._per_s
