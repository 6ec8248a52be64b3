"""The JSON of every frame to a client but `message` (docs/protocol.md, section 4)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headgate.core.client.framing import SSE, WEBSOCKET, ClientFrame, Framing
from headgate.core.client.limits import Limits
from headgate.core.wire.errors import CODES, Refusal
from headgate.core.wire.link import Subscribed

FrameId = str | int | None

_encode = msgspec.json.Encoder().encode


class _Welcome(msgspec.Struct, tag_field="type", tag="welcome", omit_defaults=True, gc=False):
    """The members of `welcome` before its `welcome_end`, in their order; only `id` is ever left out."""

    id: FrameId = None
    connection_id: str = ""
    user_id: str = ""
    server_time: int = -1
    reconnect_jitter: float = -1.0


class _Subscribed(msgspec.Struct, tag_field="type", tag="subscribed", omit_defaults=True, gc=False):
    """The members of `subscribed` in their order; None is left out, the other defaults are never values."""

    id: FrameId = None
    topic_id: str = ""
    profile: str = ""
    epoch: int = -1
    seq: int = -1
    first_seq: int | None = None
    subscriber_count: int = -1
    resumed: bool | None = None
    reason: str | None = None
    group: str | None = None


# The class of a close code tells a client what to do; the text is for people (docs/protocol.md, section 4).
CLOSE_REASONS: dict[int, str] = {
    4400: "bad frame",
    4401: "unauthenticated",
    4403: "forbidden",
    4408: "no auth in time",
    4409: "replaced",
    4500: "internal error",
    4503: "overloaded",
    4508: "slow consumer",
    4529: "too many connections",
    4601: "draining",
    4602: "heartbeat missed",
    4610: "token expired",
}


class _CaughtUp(msgspec.Struct, tag_field="type", tag="caught_up", gc=False):
    topic_id: str
    seq: int


def beats_every(framing: Framing, limits: Limits) -> float:
    """Returns the seconds between two heartbeats of a session."""
    return limits.heartbeat_s if framing is WEBSOCKET else limits.comment_s


def welcome_ends(limits: Limits) -> dict[Framing, bytes]:
    """Returns what every `welcome` of a framing ends with: see `outbound.welcome_end`."""
    return {framing: welcome_end(limits, beats_every(framing, limits)) for framing in (WEBSOCKET, SSE)}


def welcome_end(limits: Limits, beat_s: float) -> bytes:
    """The end of `welcome`, the same for all connections with a heartbeat every `beat_s` seconds."""
    beat = {"interval_ms": _ms(beat_s), "timeout_ms": _ms(limits.dead_s)}
    return b"," + _encode({"heartbeat": beat, "limits": limits.told()})[1:]


def welcome(
    connection_id: str, user_id: str, server_time: int, jitter: float, end: bytes, frame_id: FrameId = None
) -> ClientFrame:
    """The first frame of a connection, with its `welcome_end`; it echoes the id of an `auth` frame."""
    begin = _encode(_Welcome(frame_id, connection_id, user_id, server_time, jitter))
    return ClientFrame("welcome", begin[:-1] + end)


def subscribed(answer: Subscribed, topic_id: str, frame_id: FrameId) -> ClientFrame:
    """`first_seq` only for durable topics; `resumed` only where a position was given, `reason` when it is false.

    Its SSE event id is the position after which delivery begins: a client that is cut off before the first message
    resumes there, and not at the head of that time.
    """
    profile = answer.settings.get("profile", "durable")
    is_durable = profile == "durable"
    frame = _Subscribed(
        frame_id,
        topic_id,
        profile,
        answer.epoch,
        answer.seq,
        answer.first_seq if is_durable else None,
        answer.count,
        answer.resumed,
        answer.reason if answer.resumed is False else None,
        answer.group or None,
    )
    return ClientFrame("subscribed", _encode(frame), f"{answer.epoch}:{answer.cursor}" if is_durable else "")


def caught_up(topic_id: str, seq: int) -> ClientFrame:
    """Replay is over; what follows is live."""
    return ClientFrame("caught_up", _encode(_CaughtUp(topic_id, seq)))


def gap(topic_id: str, epoch: int, from_seq: int, to_seq: int, *, reason: str, recoverable: bool) -> ClientFrame:
    """The messages that a durable subscription will not get, both ends included."""
    return _frame(
        "gap",
        None,
        f"{epoch}:{to_seq}",
        topic_id=topic_id,
        from_seq=from_seq,
        to_seq=to_seq,
        count=to_seq - from_seq + 1,
        reason=reason,
        recoverable=recoverable,
    )


def volatile_gap(topic_id: str, count: int, reason: str) -> ClientFrame:
    """How many messages of an ephemeral topic a subscription did not get; they have no seq and are kept nowhere."""
    return _frame("gap", None, topic_id=topic_id, count=count, reason=reason, recoverable=False)


def unsubscribed(topic_id: str, reason: str, frame_id: FrameId = None) -> ClientFrame:
    """A subscription ended: requested, ended, deleted, forbidden or replaced."""
    return _frame("unsubscribed", frame_id, topic_id=topic_id, reason=reason)


def presence(
    topic_id: str, count: int, frame_id: FrameId = None, subscribers: msgspec.Raw | Sequence[Any] = ()
) -> ClientFrame:
    """How many users follow a topic, and who is listed (`headgate.core.wire.present_user`); nobody in mode `count`."""
    return _frame("presence", frame_id, topic_id=topic_id, subscribers=subscribers, count=count)


def presence_diff(
    topic_id: str,
    joined: list[dict[str, Any]],
    left: list[dict[str, Any]],
    changed: list[dict[str, Any]],
    count: int,
) -> ClientFrame:
    """What changed in a topic's presence: items of `user_id` and `state`; in mode `count` only the count."""
    return _frame("presence_diff", None, topic_id=topic_id, joined=joined, left=left, changed=changed, count=count)


def typing(topic_id: str, user_id: str) -> ClientFrame:
    """Somebody else types in a topic."""
    return _frame("typing", None, topic_id=topic_id, user_id=user_id)


def read(topic_id: str, user_id: str, seq: int, unread: int | None) -> ClientFrame:
    """A user has read a topic up to `seq`; `unread` is for his own sessions, None for those of publishers."""
    told = {} if unread is None else {"unread": unread}
    return _frame("read", None, topic_id=topic_id, user_id=user_id, seq=seq, **told)


def inbox(topics: list[dict[str, Any]]) -> ClientFrame:
    """New messages in topics that the session does not follow: items of `topic_id`, `head_seq` and `unread`."""
    return _frame("inbox", None, topics=topics)


def ok(frame_id: FrameId) -> ClientFrame:
    """Answers a frame that has an id and no other answer."""
    return _frame("ok", frame_id)


def error(refusal: Refusal, frame_id: FrameId = None, topic_id: str | None = None) -> ClientFrame:
    """The refusal of one frame; the connection stays."""
    members: dict[str, Any] = {"topic_id": topic_id} if topic_id is not None else {}
    members |= {"code": refusal.code, "message": refusal.detail, "retryable": CODES[refusal.code].retryable}
    if refusal.retry_after_ms is not None:
        members["retry_after_ms"] = refusal.retry_after_ms
    return _frame("error", frame_id, **members)


def disconnect(code: int, *, retry_after_ms: int | None = None) -> ClientFrame:
    """The last frame before the close. `reconnect` follows from the code's class: 44xx means stop."""
    members: dict[str, Any] = {"code": code, "reason": CLOSE_REASONS[code], "reconnect": code >= 4500}
    if retry_after_ms is not None:
        members["retry_after_ms"] = retry_after_ms
    return _frame("disconnect", None, **members)


def token_expiring(in_ms: int) -> ClientFrame:
    """The token expires soon; a `refresh` keeps the connection."""
    return _frame("token_expiring", None, in_ms=in_ms)


def refreshed(frame_id: FrameId) -> ClientFrame:
    """Answers `refresh`."""
    return _frame("refreshed", frame_id)


def pong(frame_id: FrameId, t: Any) -> ClientFrame:
    """Answers `ping` with its own `t`, where it had one."""
    return _frame("pong", frame_id) if t is msgspec.UNSET else _frame("pong", frame_id, t=t)


def _frame(name: str, frame_id: FrameId, mark: str = "", /, **members: Any) -> ClientFrame:
    return ClientFrame(name, _encode(_head(name, frame_id) | members), mark)


def _head(name: str, frame_id: FrameId) -> dict[str, Any]:
    return {"type": name} if frame_id is None else {"type": name, "id": frame_id}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
