"""What the server sends, as values: messages, and the events beside them."""

import json
from dataclasses import dataclass, fields
from typing import Any, Final, Self

Frame = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a topic. Times are milliseconds since 1970 UTC.

    `seq` and `epoch` are None in ephemeral topics. `attempt` counts deliveries of an acknowledged subscription. `kind`
    is None for a message, else `edit`, `redact` or `reaction`, an event about the message with `target_seq`.
    """

    topic_id: str
    message_id: str = ""
    publisher_id: str = ""
    payload: Any = None
    key: str | None = None
    seq: int | None = None
    epoch: int | None = None
    ts: int = 0
    attempt: int = 1
    kind: str | None = None
    target_seq: int | None = None
    version: int | None = None
    edited_at: str | None = None
    redacted: bool = False
    reactions: dict[str, int] | None = None
    name: str | None = None
    removed: bool = False
    parent_message_id: str | None = None
    parent_version: int | None = None
    attachments: list[dict[str, Any]] | None = None
    text: bytes = b""

    @classmethod
    def of(cls, frame: Frame, epoch: int | None, text: bytes = b"") -> Self:
        """Returns the message of a frame; members that this version does not know are in `text` only."""
        known = {name: frame[name] for name in _MESSAGE if name in frame}
        return cls(**known, epoch=epoch if "seq" in frame else None, text=text)

    @property
    def position(self) -> dict[str, int] | None:
        """The `from_` that begins behind this message, None in ephemeral topics."""
        if self.seq is None or self.epoch is None:
            return None
        return {"epoch": self.epoch, "seq": self.seq}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something about a subscription that is no message; `frame` has all of its members, `text` is what came."""

    topic_id: str
    frame: Frame
    text: bytes = b""


class Subscribed(Event):
    """The subscription is live on a connection. It comes again after each reconnect."""


class CaughtUp(Event):
    """What was missed has been delivered; what follows is live."""


class Presence(Event):
    """Who is there: `frame["subscribers"]` and `frame["count"]`. It replaces what was known before."""


class PresenceDiff(Event):
    """Who `joined`, `left` or `changed`, and the `count`."""


class Typing(Event):
    """`frame["user_id"]` is writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Event):
    """Messages that this subscription does not deliver, both ends included; `to_seq` may be below `from_seq`: none.
    Both are None in ephemeral topics, whose messages have no `seq`.

    `reason`: `slow_consumer`, `retention` or `shed`; `missing` when numbers are left out and the server said nothing;
    `recreated` when the topic was deleted and created again: what it had after the last message is gone with it;
    `ahead` when the server has lost the newest messages and goes on below them (`count` is 0 in both: nobody knows how
    many). `recoverable` says whether history still has them.
    """

    from_seq: int | None
    to_seq: int | None
    count: int
    reason: str
    recoverable: bool
    epoch: int | None = None


_MESSAGE: Final = {field.name for field in fields(Message)} - {"epoch", "text"}
EVENTS: Final[dict[str, type[Event]]] = {
    "subscribed": Subscribed,
    "caught_up": CaughtUp,
    "presence": Presence,
    "presence_diff": PresenceDiff,
    "typing": Typing,
}


def read(text: bytes) -> Frame:
    """Returns a frame. Raises ValueError for what is no object with a string `type`."""
    frame = json.loads(text)
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise ValueError("the server sent what is no frame")
    return frame


def gap_of(frame: Frame, epoch: int | None, text: bytes = b"") -> Gap:
    """Returns the gap of a `gap` frame."""
    first, last = frame.get("from_seq"), frame.get("to_seq")
    named = 0 if first is None or last is None else last - first + 1
    return Gap(
        topic_id=frame["topic_id"],
        frame=frame,
        text=text,
        from_seq=first,
        to_seq=last,
        count=int(frame.get("count", named)),
        reason=str(frame.get("reason", "")),
        recoverable=bool(frame.get("recoverable")),
        epoch=epoch,
    )


def missing(topic_id: str, first: int, last: int, epoch: int | None) -> Gap:
    """Returns the gap of numbers that no frame named."""
    return Gap(
        topic_id=topic_id, frame={}, from_seq=first, to_seq=last, count=last - first + 1, reason="missing",
        recoverable=True, epoch=epoch,
    )  # fmt: skip


def restarted(topic_id: str, frame: Frame, reason: str, text: bytes = b"") -> Gap:
    """Returns the gap that stands for a topic that was created again, or that has lost its newest messages."""
    return Gap(
        topic_id=topic_id, frame=frame, text=text, from_seq=1, to_seq=0, count=0, reason=reason,
        recoverable=False, epoch=frame.get("epoch"),
    )  # fmt: skip


def encode(value: Any) -> str:
    """Returns JSON text. Raises ValueError or TypeError for what JSON has no value for."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
