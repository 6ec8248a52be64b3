"""Reads the frames that a client sends over a WebSocket (docs/protocol.md, section 3), and limits their rate."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.wire.errors import HeadgateError, Refusal
from headgate.core.wire.ids import MAX_INTEGER, PRINTABLE_ASCII, check_topic_id
from headgate.core.wire.payload import check_depth, check_utf8, compact
from headgate.core.wire.payload import members as members_of
from headgate.core.wire.position import CURSOR, Position, from_json, from_query

_decode: Final = msgspec.json.Decoder().decode
DEFAULT_DEVICE: Final = "default"
NO_REASON: Final = "nack"  # of a nack that gives none
NO_PRESENCE: Final = 0
PRESENCE_ONCE: Final = 1
PRESENCE_CHANGES: Final = 2
MAX_ID_BYTES: Final = 128  # of a frame's id: it is kept while its answer waits for the log or an owner
_INTEGERS: Final = range(-(1 << 63), 1 << 64)  # ids that are numbers
_PAUSE_S: Final = 1.0  # a second without a refusal ends an excess
_MAX_REFUSED: Final = 2_000  # an excess of so many frames is over at once: 20 ms of everybody's loop


class BadFrame(HeadgateError):
    """Not a JSON object with a string `type`: the connection ends with 4400."""


class ClientFrameHead(NamedTuple):
    """A frame of which only `type` and `id` are read; `bad_id` says that its id is none that an answer can echo."""

    type: str
    id: FrameId
    bad_id: bool
    members: Mapping[str, Any]

    @property
    def topic_id(self) -> str | None:
        """The topic to name in an error, where the frame named one that could be meant."""
        topic_id = self.members.get("topic_id")
        return topic_id if isinstance(topic_id, str) and len(topic_id) <= 128 else None


class Auth(NamedTuple):
    """`auth` and `refresh`."""

    token: str


class Subscribe(NamedTuple):
    """A subscribe request, from a frame or a query. `position` is None for live.

    `presence` is 0 where the client wants none, 1 for the first `presence` frame, 2 for `presence_diff` frames too.
    `ack`: the client acknowledges what it gets. `group`: it is a member of this consumer group, "" for none.
    """

    topic_id: str
    position: Position | None
    presence: int
    device_id: str = DEFAULT_DEVICE
    ack: bool = False
    group: str = ""

    @property
    def leases(self) -> bool:
        """Whether it acknowledges for its device, and so takes over from another session of it."""
        return self.ack and not self.group

    @property
    def needs_cursor(self) -> bool:
        """Whether the owner of the user's shard is asked for the device's cursor first."""
        return not self.group and (self.ack or (self.position is not None and self.position.form == CURSOR))


class Unsubscribe(NamedTuple):
    """A request to end the subscription of a topic."""

    topic_id: str


class Ack(NamedTuple):
    """All messages of a topic up to `seq` are acknowledged; a message that is replayed, by its own `seq` alone."""

    topic_id: str
    seq: int


class Nack(NamedTuple):
    """One message could not be used, and should come again."""

    topic_id: str
    seq: int
    reason: str


class MarkRead(NamedTuple):
    """The user has read a topic up to `seq`."""

    topic_id: str
    seq: int


class RequestPresence(NamedTuple):
    """A request for a topic's `presence` frame."""

    topic_id: str


class SetStatus(NamedTuple):
    """Whether the user of this connection is away."""

    away: bool


class SayTyping(NamedTuple):
    """The user types in a topic."""

    topic_id: str


class Ping(NamedTuple):
    """`t` comes back as it is; UNSET where there was none."""

    t: Any


Command = Auth | Subscribe | Unsubscribe | Ack | Nack | MarkRead | RequestPresence | SetStatus | SayTyping | Ping


def open_envelope(data: bytes) -> ClientFrameHead:
    """Reads a frame's JSON, its `type` and its `id`. Raises BadFrame."""
    try:
        members = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = _member_by_member(data)
    if not isinstance(members, dict) or not isinstance(members.get("type"), str):
        raise BadFrame("a frame is a JSON object with a string type")
    frame_id = members.get("id")
    good = frame_id is None or _is_frame_id(frame_id)
    return ClientFrameHead(members["type"], frame_id if good else None, not good, members)


def _member_by_member(data: bytes) -> dict[str, Any]:
    """Reads JSON that the decoder refuses for a number out of range or a lone surrogate escape.

    Such a member stays text (Raw), which no field that we read allows. Raises BadFrame when the frame is no object.
    """
    try:
        check_utf8(data)
        text = compact(data)
        check_depth(text)
    except ValueError:
        raise BadFrame("a frame is one JSON object") from None
    if not text.startswith(b"{"):
        raise BadFrame("a frame is one JSON object")
    return {name: _value_of(value) for name, value in members_of(text).items()}


def _is_frame_id(value: Any) -> bool:
    if type(value) is str:
        return len(value) <= MAX_ID_BYTES and (value.isascii() or len(value.encode()) <= MAX_ID_BYTES)
    return type(value) is int and value in _INTEGERS


def _value_of(text: bytes) -> Any:
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return msgspec.Raw(text)


def command(frame: ClientFrameHead) -> Command:
    """Reads a frame's fields. Raises Refusal `unknown_type`, `bad_request` or `invalid_topic_id`."""
    reader = _READERS.get(frame.type)
    if reader is None:
        raise Refusal("unknown_type", f"there is no frame type {frame.type[:64]!r}")
    if frame.bad_id:
        raise Refusal("bad_request", f"id is a string of at most {MAX_ID_BYTES} bytes or an integer of at most 64 bits")
    return reader(frame.members)


def subscribe_from_query(topic_id: str, query: Mapping[str, str]) -> Subscribe:
    """Reads one topic of a query string: `from`, `ack`, `presence`, `device_id` and `group`; others are ignored.

    Raises Refusal `invalid_topic_id` or `bad_request`.
    """
    get = query.get
    return _asked_in_query(topic_id, get("from"), get("ack"), get("presence"), get("device_id"), get("group"))


@lru_cache(maxsize=1_024)  # the clients of one topic mostly ask the same; one that is refused is not kept
def _asked_in_query(
    topic_id: str, begin: str | None, ack: str | None, presence: str | None, device_id: str | None, group: str | None
) -> Subscribe:
    check_topic_id(topic_id)
    position = None if begin is None else from_query(begin)
    members: dict[str, Any] = {} if ack is None else {"ack": _flag("ack", ack)}
    if presence is not None:
        members["presence"] = _flag("presence", presence)
    if device_id is not None:
        members["device_id"] = device_id
    if group is not None:
        members["group"] = group
    return _subscribe(topic_id, position, members)


class Allowance:
    """A token bucket of control frames, and for how long a client has been above it.

    One object a session, made with its first frame. `publish.token_buckets` keeps its buckets by key for a process and
    forgets the oldest; here a bucket lives as long as its session and counts refusals too, so the two share nothing.
    """

    __slots__ = ("_at", "_refused", "_refused_at", "_since", "_tokens")

    def __init__(self, now: float, limits: Limits) -> None:
        self._tokens = float(limits.control_burst)
        self._at = now
        self._since = now
        self._refused = 0
        self._refused_at = float("-inf")

    def take(self, now: float, limits: Limits) -> bool:
        """Counts a frame at `now` (monotonic seconds); false, and not counted, when it is above the rate."""
        self._tokens = min(self._tokens + (now - self._at) * limits.control_per_s, float(limits.control_burst))
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return True
        if now - self._refused_at > _PAUSE_S:
            self._since = now
            self._refused = 0
        self._refused += 1
        self._refused_at = now
        return False

    def exhausted(self, now: float, limits: Limits) -> bool:
        """Returns whether there were refusals for so long that the connection ends with 4503."""
        return now - self._since >= limits.control_patience_s or self._refused > _MAX_REFUSED


def _topic(members: Mapping[str, Any]) -> str:
    if "topic_id" not in members:
        raise Refusal("bad_request", "topic_id is missing")
    return check_topic_id(members["topic_id"])


def _auth(members: Mapping[str, Any]) -> Auth:
    token = members.get("token")
    if not isinstance(token, str):
        raise Refusal("bad_request", "token is a string")
    return Auth(token)


def _subscribe_frame(members: Mapping[str, Any]) -> Subscribe:
    topic_id = _topic(members)
    position = members.get("from", "live")
    return _subscribe(topic_id, from_json({} if position is None else position), members)  # null is no form


def _subscribe(topic_id: str, position: Position | None, members: Mapping[str, Any]) -> Subscribe:
    ack, presence = members.get("ack", False), members.get("presence", False)
    if type(ack) is not bool or type(presence) is not bool:
        raise Refusal("bad_request", f"{'presence' if type(ack) is bool else 'ack'} is true or false")
    device_id = members.get("device_id", DEFAULT_DEVICE)
    if device_id is not DEFAULT_DEVICE and not _is_device(device_id):
        raise Refusal("bad_request", "device_id is 1 to 128 printable ASCII characters")
    group = members.get("group", "")
    if "group" in members:
        if not _is_device(group):
            raise Refusal("bad_request", "group is 1 to 128 printable ASCII characters")
        if not ack:
            raise Refusal("bad_request", "a group needs ack:true: its messages are shared by who acknowledges them")
    return Subscribe(topic_id, position, _LEVELS[members.get("presence")], device_id, ack, group)


def _is_device(device_id: Any) -> bool:
    return isinstance(device_id, str) and PRINTABLE_ASCII.fullmatch(device_id) is not None


def _unsubscribe(members: Mapping[str, Any]) -> Unsubscribe:
    return Unsubscribe(_topic(members))


def _ack(members: Mapping[str, Any]) -> Ack:
    return Ack(_topic(members), _seq(members.get("seq")))


def _nack(members: Mapping[str, Any]) -> Nack:
    topic_id, seq, reason = _topic(members), _seq(members.get("seq")), members.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise Refusal("bad_request", "reason is a string")
    return Nack(topic_id, seq, NO_REASON if reason is None else reason)


def _presence(members: Mapping[str, Any]) -> RequestPresence:
    return RequestPresence(_topic(members))


def _typing(members: Mapping[str, Any]) -> SayTyping:
    return SayTyping(_topic(members))


def _status(members: Mapping[str, Any]) -> SetStatus:
    state = members.get("state")
    if state not in ("online", "away"):
        raise Refusal("bad_request", "state is online or away")
    return SetStatus(state == "away")


def _ping(members: Mapping[str, Any]) -> Ping:
    return Ping(members.get("t", msgspec.UNSET))


def _read(members: Mapping[str, Any]) -> MarkRead:
    return MarkRead(_topic(members), _seq(members.get("seq")))


def _seq(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise Refusal("bad_request", "seq is an integer from 0")
    return value


def _flag(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise Refusal("bad_request", f"{name} is true or false")
    return value == "true"


_LEVELS: Final = {None: PRESENCE_ONCE, True: PRESENCE_CHANGES, False: NO_PRESENCE}  # by the member `presence`
_READERS: Final[dict[str, Callable[[Mapping[str, Any]], Command]]] = {
    "auth": _auth,
    "refresh": _auth,
    "subscribe": _subscribe_frame,
    "unsubscribe": _unsubscribe,
    "presence": _presence,
    "ping": _ping,
    "ack": _ack,
    "nack": _nack,
    "read": _read,
    "typing": _typing,
    "status": _status,
}
