"""A publish: reads and checks its body, and builds the tail of the client's frame from it; never parses the payload."""

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from headgate.core.errors import Refusal
from headgate.core.ids import PRINTABLE_ASCII, id_bytes, id_text
from headgate.core.payload import check_depth, check_utf8, compact, members, without_lone

MAX_ATTACHMENTS: Final = 10
_NO_RAW: Final = msgspec.Raw(b"")
_NOT_OBJECT: Final = "the body must be a JSON object"
_DETAILS: Final = {
    "not_utf8": "the body is not UTF-8",
    "not_json": "the body is not JSON",
    "too_deep": "the body is nested deeper than 64",
}


class Publish(NamedTuple):
    """A checked publish. `payload` is the compacted text; `rest` what the frame has after it, with leading commas."""

    payload: bytes
    client_msg_id: str | None
    low: bool
    rest: bytes


# A page will make a link of it: http, https or relative, and nothing that a browser reads over (blanks, controls).
_URL: Final = r"^(?:[hH][tT][tT][pP][sS]?:|[^:/?#\x00-\x20\x7f]*(?:[/?#]|\Z))[^\x00-\x20\x7f]*\Z"


class _Attachment(msgspec.Struct, omit_defaults=True):
    url: Annotated[str, msgspec.Meta(min_length=1, pattern=_URL)]
    name: str | None = None
    content_type: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)] | None = None


class _Body(msgspec.Struct):
    payload: msgspec.Raw = _NO_RAW
    client_msg_id: str | None = None
    priority: Literal["NORMAL", "LOW"] | None = None
    parent_message_id: str | None = None
    parent_version: Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)] | None = None
    attachments: list[_Attachment] | None = None


class _Routed(msgspec.Struct):
    topic_id: str | None = None


_body = msgspec.json.Decoder(_Body)
_routed = msgspec.json.Decoder(_Routed)
_anything = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def read_publish(raw: bytes, max_bytes: int) -> Publish:
    """Reads the body of a publish.

    Raises Refusal: `bad_request` naming the member, `invalid_payload` without one, `too_large` when the payload's text
    and its attachments have more than `max_bytes` bytes.
    """
    check_text(raw)
    try:
        body = _body.decode(raw)
    except msgspec.ValidationError as error:
        raise _bad_member(error) from None
    except (msgspec.DecodeError, RecursionError):
        body = _read_lone(raw)
    if body.payload == _NO_RAW:
        raise Refusal("invalid_payload", "the body needs a member payload: any JSON")
    payload = compact(bytes(body.payload))
    if body.client_msg_id is not None:
        check_client_msg_id(body.client_msg_id, "client_msg_id")
    rest, counted = _rest(body)
    if len(payload) + counted > max_bytes:
        raise Refusal("too_large", f"the payload has {len(payload) + counted} bytes; at most {max_bytes} are taken")
    return Publish(payload, body.client_msg_id, body.priority == "LOW", rest)


def read_topic_id(raw: bytes) -> str:
    """Returns the member `topic_id` of a body that names its topic. Raises Refusal `bad_request`; checks no more."""
    check_text(raw)
    try:
        topic_id = _routed.decode(raw).topic_id
    except msgspec.ValidationError as error:
        raise _bad_member(error) from None
    except (msgspec.DecodeError, RecursionError):
        _read_lone(raw)
        value = _anything.decode(without_lone(members(raw).get("topic_id", b"null")))
        topic_id = value if isinstance(value, str) else None
    if topic_id is None:
        raise Refusal("bad_request", "topic_id is missing; every item of this batch names its topic")
    return topic_id


def read_object(raw: bytes) -> dict[str, Any]:
    """Returns the body of another request as an object. Raises Refusal `bad_request`."""
    check_text(raw)
    try:
        value = _anything.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Refusal("bad_request", _DETAILS["not_json"]) from None
    if not isinstance(value, dict):
        raise Refusal("bad_request", _NOT_OBJECT)
    return value


def check_text(raw: bytes) -> None:
    """Raises Refusal `bad_request` for a body that is not UTF-8, and for JSON that is nested too deep."""
    try:
        check_utf8(raw)
        check_depth(raw)
    except ValueError as error:
        raise Refusal("bad_request", _DETAILS[str(error)]) from None


def check_client_msg_id(value: str, name: str) -> None:
    """Raises Refusal `bad_request` unless it is 1 to 128 printable ASCII characters; `name` is what it is called."""
    if PRINTABLE_ASCII.fullmatch(value) is None:
        raise Refusal("bad_request", f"{name} must be 1 to 128 printable ASCII characters")


def build(message_id: bytes, publisher_id: str, publish: Publish) -> bytes:
    """Returns the tail of the message frame, from `"message_id"` to the closing brace (DESIGN section 4)."""
    return b'"message_id":"%b","publisher_id":%b,"payload":%b%b}' % (
        id_text(message_id).encode(),
        _encode(publisher_id),
        publish.payload,
        publish.rest,
    )


def _rest(body: _Body) -> tuple[bytes, int]:
    """Returns what stands after the payload, and how many bytes of it count as payload (the attachments)."""
    rest, counted = b"", 0
    if body.parent_message_id is not None:
        rest += b',"parent_message_id":"%b"' % id_text(_parent(body.parent_message_id)).encode()
    if body.parent_version is not None:
        rest += b',"parent_version":%d' % body.parent_version
    if body.attachments:
        if len(body.attachments) > MAX_ATTACHMENTS:
            raise Refusal("bad_request", f"attachments must be at most {MAX_ATTACHMENTS}")
        text = _encode(body.attachments)
        rest += b',"attachments":%b' % text
        counted = len(text)
    return rest, counted


def _parent(text: str) -> bytes:
    try:
        return id_bytes(text)
    except Refusal:
        raise Refusal("bad_request", "parent_message_id must be UUID text in lower case") from None


def _bad_member(error: msgspec.ValidationError) -> Refusal:
    what, _, where = str(error).partition(" - at `$")
    name = where.rstrip("`").lstrip(".")
    if not name:
        return Refusal("bad_request", _NOT_OBJECT)
    return Refusal("bad_request", f"{name}: {what}")


def _read_lone(raw: bytes) -> _Body:
    """Reads what msgspec refuses as JSON although it may only hold a lone surrogate escape."""
    try:
        compact(raw)
    except ValueError as error:
        raise Refusal("bad_request", _DETAILS[str(error)]) from None
    if not raw.lstrip(b" \t\r\n").startswith(b"{"):
        raise Refusal("bad_request", _NOT_OBJECT)
    found = {name: text for name, text in members(raw).items() if name in _Body.__struct_fields__}
    payload = found.pop("payload", b"")
    try:
        body = _body.decode(b"{" + b",".join(_encode(name) + b":" + text for name, text in found.items()) + b"}")
    except msgspec.ValidationError as error:
        raise _bad_member(error) from None
    except msgspec.DecodeError:
        raise Refusal("bad_request", "only the payload may hold a lone surrogate escape") from None
    body.payload = msgspec.Raw(payload)
    return body
