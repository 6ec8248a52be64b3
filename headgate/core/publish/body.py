"""The body of a publish: read, checked, and written as the tail of the message frame. The payload is never parsed."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER, PRINTABLE_ASCII, id_bytes, id_text
from headgate.core.wire.payload import (
    check_depth,
    check_utf8,
    compact,
    hide_escapes,
    infinite_lone,
    show_escapes,
)

MAX_ATTACHMENTS: Final = 10
MAX_KEY: Final = 256  # characters
MAX_DIGITS: Final = 20  # with a sign, of 64 bits; Python refuses integers of thousands, and reads them slowly
_NO_RAW: Final = msgspec.Raw(b"")
_NOT_OBJECT: Final = "the body must be a JSON object"
_DETAILS: Final = {
    "not_utf8": "the body is not UTF-8",
    "not_json": "the body is not JSON",
    "too_deep": "the body is nested deeper than 64",
}
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # of UTF-8, UTF-16 in both orders


class PublishBody(NamedTuple):
    """A checked body. `payload` is its compacted text; `rest` the frame's members behind it, with leading commas.

    `parent` is the id of the message that it replies to, empty for none; `rest` has it too. `key` is its JSON text,
    empty for none: messages of one key go to one member of a consumer group.
    """

    payload: bytes
    client_msg_id: str | None
    low: bool
    rest: bytes
    parent: bytes = b""
    key: bytes = b""


# A page makes a link of it: http, https or relative, without blanks and controls, which a browser skips.
_URL: Final = r"^(?:[hH][tT][tT][pP][sS]?:|[^:/?#\x00-\x20\x7f]*(?:[/?#]|\Z))[^\x00-\x20\x7f]*\Z"


class _Attachment(msgspec.Struct, omit_defaults=True):
    url: Annotated[str, msgspec.Meta(min_length=1, pattern=_URL)]
    name: str | None = None
    content_type: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)] | None = None


class _Body(msgspec.Struct):
    payload: msgspec.Raw = _NO_RAW
    client_msg_id: str | None = None
    key: str | None = None
    priority: Literal["NORMAL", "LOW"] | None = None
    parent_message_id: str | None = None
    parent_version: Annotated[int, msgspec.Meta(ge=1, le=MAX_INTEGER)] | None = None
    attachments: list[_Attachment] | None = None


class _Routed(msgspec.Struct):
    topic_id: str | None = None


class _Item(_Body):
    topic_id: str | None = None


class _Texts(msgspec.Struct):
    """The members that are read, each as it is written."""

    topic_id: msgspec.Raw = _NO_RAW
    payload: msgspec.Raw = _NO_RAW
    client_msg_id: msgspec.Raw = _NO_RAW
    key: msgspec.Raw = _NO_RAW
    priority: msgspec.Raw = _NO_RAW
    parent_message_id: msgspec.Raw = _NO_RAW
    parent_version: msgspec.Raw = _NO_RAW
    attachments: msgspec.Raw = _NO_RAW


class _Members(_Texts):
    """Those of all other requests."""

    version: msgspec.Raw = _NO_RAW
    content: msgspec.Raw = _NO_RAW
    channel_id: msgspec.Raw = _NO_RAW
    message_id: msgspec.Raw = _NO_RAW
    reaction: msgspec.Raw = _NO_RAW
    remove: msgspec.Raw = _NO_RAW


_body = msgspec.json.Decoder(_Body)
_routed = msgspec.json.Decoder(_Routed)
_item = msgspec.json.Decoder(_Item)
_texts = msgspec.json.Decoder(_Texts)
_members = msgspec.json.Decoder(_Members)
_anything = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def read_publish(raw: bytes, max_bytes: int) -> PublishBody:
    """Reads the body of a publish.

    Raises Refusal: `bad_request` naming the member, `invalid_payload` without a payload, `too_large` when the compacted
    payload and its attachments have more than `max_bytes` bytes.
    """
    check_text(raw)
    try:
        body = _body.decode(raw)
        payload = _compacted(bytes(body.payload))
    except msgspec.ValidationError as error:
        raise _bad_member(error) from None
    except (msgspec.DecodeError, RecursionError):
        body, payload = _read_lone(raw)
    return _checked(body, payload, max_bytes)


def read_item(raw: bytes, max_bytes: int) -> tuple[PublishBody, str] | None:
    """Reads a body that names its topic in one pass; also returns its `topic_id`, unchecked.

    None where anything is wrong, or rare: `read_publish` and `read_topic_id` then find what it is.
    """
    try:
        check_utf8(raw)
        check_depth(raw)
        item = _item.decode(raw)
        if item.topic_id is None:
            return None
        return _checked(item, compact(bytes(item.payload)), max_bytes), item.topic_id
    except (Refusal, ValueError, RecursionError):  # ValueError: msgspec's DecodeError too
        return None


def _checked(body: _Body, payload: bytes, max_bytes: int) -> PublishBody:
    if not payload:
        raise Refusal("invalid_payload", "the body needs a member payload: any JSON")
    if body.client_msg_id is not None:
        check_client_msg_id(body.client_msg_id, "client_msg_id")
    if body.key is not None and not 0 < len(body.key) <= MAX_KEY:
        raise Refusal("bad_request", f"key must be 1 to {MAX_KEY} characters")
    parent = read_parent(body.parent_message_id)
    rest, counted = _rest(body, parent)
    if len(payload) + counted > max_bytes:
        raise Refusal("too_large", f"the payload has {len(payload) + counted} bytes; at most {max_bytes} are taken")
    key = b"" if body.key is None else _encode(body.key)
    return PublishBody(payload, body.client_msg_id, body.priority == "LOW", rest, parent, key)


def read_topic_id(raw: bytes) -> str:
    """Returns the member `topic_id` of a body that names its topic, unchecked. Raises Refusal `bad_request`."""
    try:
        check_utf8(raw)
        topic_id = _routed.decode(raw).topic_id
    except msgspec.ValidationError as error:
        raise _bad_member(error) from None
    except (msgspec.DecodeError, RecursionError):
        topic_id = _lone_topic_id(raw)
    except ValueError:
        raise Refusal("bad_request", what_is_wrong(raw, "not_utf8")) from None
    if topic_id is None:
        raise Refusal("bad_request", "topic_id is missing; every item of this batch names its topic")
    return topic_id


def read_object(raw: bytes) -> dict[str, Any]:
    """Returns the body of another request as an object. Raises Refusal `bad_request`.

    A value that Python's types cannot hold (a number above all floats, a string with a lone surrogate) is infinite: who
    knows the member refuses that, and nobody else looks.
    """
    check_text(raw)
    try:
        value = _anything.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = _read_unheld(raw)
    if not isinstance(value, dict):
        raise Refusal("bad_request", _NOT_OBJECT)
    return value


def _read_unheld(raw: bytes) -> Any:
    """Reads JSON that msgspec refuses. Raises Refusal `bad_request` where it is none."""
    text = infinite_lone(_compacted_body(raw))
    try:
        return json.loads(text, parse_int=_integer)
    except ValueError:
        raise Refusal("bad_request", what_is_wrong(raw, "not_json")) from None


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def read_members(raw: bytes) -> dict[str, bytes]:
    """Returns those members of another request's body that any request has, as compacted JSON text, unparsed.

    What else the body holds costs no objects: it may be very many members. Raises Refusal `bad_request`.
    """
    check_text(raw)
    text = _compacted_body(raw)
    if not text.startswith(b"{"):
        raise Refusal("bad_request", _NOT_OBJECT)
    try:
        return {name: bytes(member) for name, member in _given(_members.decode(text))}
    except msgspec.DecodeError:  # a lone surrogate escape, which a payload may hold
        return {name: show_escapes(bytes(member)) for name, member in _given(_members.decode(hide_escapes(text)))}


def _compacted_body(raw: bytes) -> bytes:
    try:
        return compact(raw)
    except ValueError as error:
        raise Refusal("bad_request", what_is_wrong(raw, str(error))) from None


def check_text(raw: bytes) -> None:
    """Raises Refusal `bad_request` for a body that is not UTF-8, and for JSON that is nested too deep."""
    try:
        check_utf8(raw)
        check_depth(raw)
    except ValueError as error:
        raise Refusal("bad_request", what_is_wrong(raw, str(error))) from None


def what_is_wrong(raw: bytes, reason: str) -> str:
    """Returns one sentence about a body, or a line, that cannot be read.

    `reason` is the argument of the ValueErrors of `headgate.core.wire.payload`.
    """
    if raw.startswith(_MARKS):
        return f"{_DETAILS[reason]}: it begins with a byte order mark; send UTF-8 without one"
    return _DETAILS[reason]


def check_client_msg_id(value: str, name: str) -> None:
    """Raises Refusal `bad_request`, which calls it `name`, unless it is 1 to 128 printable ASCII characters."""
    if PRINTABLE_ASCII.fullmatch(value) is None:
        raise Refusal("bad_request", f"{name} must be 1 to 128 printable ASCII characters")


def frame_tail(message_id: bytes, publisher_id: str, body: PublishBody) -> bytes:
    """Returns the tail of the message frame: from `"message_id"` to the closing brace."""
    key = b'"key":%b,' % body.key if body.key else b""
    return b'"message_id":"%b","publisher_id":%b,%b"payload":%b%b}' % (
        id_text(message_id).encode(),
        _encode(publisher_id),
        key,
        body.payload,
        body.rest,
    )


def _rest(body: _Body, parent: bytes) -> tuple[bytes, int]:
    """Returns the frame's members behind the payload, and the bytes in them that count as payload (attachments)."""
    rest, counted = b"", 0
    if parent:
        rest += b',"parent_message_id":"%b"' % id_text(parent).encode()
    if body.parent_version is not None:
        rest += b',"parent_version":%d' % body.parent_version
    if body.attachments:
        if len(body.attachments) > MAX_ATTACHMENTS:
            raise Refusal("bad_request", f"attachments must be at most {MAX_ATTACHMENTS}")
        text = _encode(body.attachments)
        rest += b',"attachments":%b' % text
        counted = len(text)
    return rest, counted


def read_parent(text: str | None) -> bytes:
    """Returns the id of the message that is replied to, empty for none. Raises Refusal `bad_request`."""
    try:
        return b"" if text is None else id_bytes(text)
    except Refusal:
        raise Refusal("bad_request", "parent_message_id must be UUID text in lower case") from None


def _bad_member(error: msgspec.ValidationError) -> Refusal:
    what, _, where = str(error).partition(" - at `$")
    name = where.rstrip("`").lstrip(".")
    if not name:
        return Refusal("bad_request", _NOT_OBJECT)
    return Refusal("bad_request", f"{name}: {what}")


def _read_lone(raw: bytes) -> tuple[_Body, bytes]:
    """Reads a body that msgspec refuses: it may be JSON with a lone surrogate escape. Also returns its payload."""
    texts = _hidden_texts(raw)
    payload = texts.pop("payload", b"")
    texts.pop("topic_id", None)
    others = b",".join(_encode(name) + b":" + show_escapes(text) for name, text in texts.items())
    try:
        body = _body.decode(b"{" + others + b"}")
    except msgspec.ValidationError as error:
        raise _bad_member(error) from None
    except msgspec.DecodeError:
        raise Refusal("bad_request", "only the payload may hold a lone surrogate escape") from None
    return body, show_escapes(_compacted(payload))


def _compacted(payload: bytes) -> bytes:
    try:
        return compact(payload) if payload else b""
    except ValueError as error:
        raise Refusal("bad_request", _DETAILS[str(error)]) from None


def _lone_topic_id(raw: bytes) -> str | None:
    try:
        value = _anything.decode(show_escapes(_hidden_texts(raw).get("topic_id", b"null")))
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, str) else None


def _hidden_texts(raw: bytes) -> dict[str, bytes]:
    """Returns each member that is read, as it is written but with its escapes hidden. Raises Refusal `bad_request`."""
    why = "not_json"
    try:
        hidden = hide_escapes(raw)
        if hidden != raw:
            return {name: bytes(text) for name, text in _given(_texts.decode(hidden))}
    except msgspec.ValidationError:
        raise Refusal("bad_request", _NOT_OBJECT) from None
    except RecursionError:
        why = "too_deep"
    except ValueError:  # msgspec's DecodeError too
        pass
    raise Refusal("bad_request", what_is_wrong(raw, why))


def _given(texts: _Texts) -> Iterator[tuple[str, msgspec.Raw]]:
    return ((name, text) for name, text in msgspec.structs.asdict(texts).items() if text is not _NO_RAW)
