"""The position of a reader in its topics, and what a closed connection means for it; pure."""

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from headgate.core.wire.payload import without_lone
from headgate.core.wire.position import NO_EPOCH, Position

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
_STOP: Final = frozenset({1002, 1007, 1009, 4610})  # 4610: the token must be renewed, and a command cannot

Action = Literal["stop", "backoff", "now"]
_CLASSES: Final[dict[int, Action]] = {44: "stop", 45: "backoff", 46: "now"}


class Frame(msgspec.Struct):
    """The members that a reader needs of a frame; everything is printed as it came."""

    type: str = ""
    topic_id: str = ""
    epoch: int | None = None
    seq: int | None = None
    to_seq: int | None = None
    profile: str | None = None
    code: int | str | None = None
    reason: str | None = None
    message: str | None = None
    retryable: bool = False
    reconnect: bool | None = None
    retry_after_ms: int | None = None


def read_frame(text: bytes) -> Frame:
    """Reads a server's frame, whatever its payload holds: `1e999` and a lone surrogate escape are legal JSON."""
    return msgspec.json.decode(without_lone(text) if b"\\u" in text else text, type=Frame)


class TopicPlace:
    """A topic and how far it was read; after a lost connection it asks for what follows."""

    def __init__(self, topic_id: str, start: Any, *, presence: bool = False) -> None:
        """`start` is the JSON form of `from`; with `presence` it asks for `presence_diff` frames."""
        self.topic_id = topic_id
        self.ack = False
        self._group: str | None = None
        self._presence = presence
        self._start = start
        self._epoch: int | None = None
        self._seq: int | None = None

    def acknowledge(self, *, ack: bool, group: str | None) -> None:
        """Whether messages are acknowledged, and as a member of which group: then the server knows how far it is."""
        self.ack = ack
        self._group = group

    def frame(self) -> bytes:
        """Returns the subscribe frame."""
        start = self._start if self._seq is None else {"epoch": self._epoch, "seq": self._seq}
        if self.ack and self._epoch is not None:
            start = "cursor"
        wanted: dict[str, Any] = {"presence": True} if self._presence else {}
        wanted |= {"ack": True} if self.ack else {}
        wanted |= {} if self._group is None else {"group": self._group}
        return msgspec.json.encode({"type": "subscribe", "topic_id": self.topic_id, "from": start, **wanted})

    def learn(self, frame: Frame) -> None:
        """Moves on by one frame of this topic."""
        if frame.type == "subscribed":
            self._subscribed(frame)
        elif frame.type in ("message", "caught_up") and frame.seq is not None:
            self._seq = frame.seq
        elif frame.type == "gap" and frame.to_seq is not None:
            self._seq = frame.to_seq

    def _subscribed(self, frame: Frame) -> None:
        if frame.profile == "ephemeral":
            self._epoch = self._seq = None  # nothing is kept: there is no position to resume from
            self._start = "live"
        elif self._epoch is None:
            self._epoch = frame.epoch
            self._seq = frame.seq if self._start in ("live", {"last": 0}) else None
        elif frame.epoch != self._epoch:
            self._epoch, self._seq, self._start = frame.epoch, None, "earliest"  # recreated: every message is new
        elif frame.reason == "ahead":
            self._seq = frame.seq


def after_close(code: int, last: Frame | None) -> Action:
    """Returns what to do after a close code; `last` is the `disconnect` frame before it, if there was one."""
    if code in _STOP or (last is not None and last.reconnect is False):
        return "stop"
    return _CLASSES.get(code // 100, "backoff")


def json_form(position: Position | None) -> Any:
    """Returns the JSON form of a `from` that was read from its query form."""
    if position is None:
        return "live"
    form, epoch, number = position
    if form == "earliest":
        return "earliest"
    if form != "seq":
        return {form: number}
    return {"seq": number} if epoch == NO_EPOCH else {"epoch": epoch, "seq": number}


class Backoff:
    """Growing waits with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

    def __init__(self, rnd: Callable[[], float]) -> None:
        self._random = rnd
        self._ceiling = FIRST_WAIT_S

    def reset(self) -> None:
        """The connection worked: begin again with the shortest wait."""
        self._ceiling = FIRST_WAIT_S

    def next_s(self, at_least_ms: int | None) -> float:
        """Returns how long to wait (s), never less than the server asked for."""
        wait = self._random() * self._ceiling
        self._ceiling = min(self._ceiling * 2, LONGEST_WAIT_S)
        return (at_least_ms or 0) / 1_000 + wait
