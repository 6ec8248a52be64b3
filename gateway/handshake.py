"""The WebSocket opening handshake (RFC 6455 section 4) as values."""

import binascii
from hashlib import sha1
from typing import Final

from gateway.head import Head, HeadRefused
from headgate.core.wire.errors import Refusal
from headgate.runtime.http.answers import plain_answer, problem_answer
from headgate.runtime.http.credentials import PROTOCOL
from headgate.runtime.http.origins import Origins

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_SELECTED: Final = f"Sec-WebSocket-Protocol: {PROTOCOL}\r\n".encode()
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = "13"


def check(head: Head, origins: Origins, busy: str | None) -> None:
    """Checks a handshake but for its credentials: its headers, its page's origin, and whether there is room.

    `busy` is the reason why no stream is accepted now, or None. Raises HeadRefused with 400, 403, 426 or 503.
    """
    headers = head.headers
    if head.version != "1.1" or not _names("upgrade", headers.get("connection", "")):
        raise _upgrade_required("this path serves WebSockets: connect with a WebSocket client")
    if not _names("websocket", headers.get("upgrade", "")):
        raise _upgrade_required("the Upgrade header must name 'websocket'")
    if headers.get("sec-websocket-version") != _VERSION:
        raise _upgrade_required(f"the Sec-WebSocket-Version header must be {_VERSION}")
    if not _is_key(headers.get("sec-websocket-key", "")):
        raise HeadRefused(problem_answer(Refusal("bad_request", "Sec-WebSocket-Key must be 16 bytes in base64")))
    origin = headers.get("origin")
    if origin is not None and not origins.allows(origin, headers.get("host")):
        raise HeadRefused(problem_answer(Refusal("forbidden", "pages of this origin may not connect")))
    if busy is not None:
        raise HeadRefused(problem_answer(Refusal("overloaded", busy)))


def accept(head: Head) -> bytes:
    """Returns the 101 answer. No extension is negotiated; of the subprotocols only `headgate.v1` can be selected."""
    key = head.headers["sec-websocket-key"].encode()
    digest = binascii.b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)
    selected = _SELECTED if PROTOCOL in subprotocols(head) else b""
    return b"%b%b\r\n%b\r\n" % (_SWITCHING, digest, selected)


def subprotocols(head: Head) -> list[str]:
    """Returns the offered subprotocols in order."""
    offered = head.headers.get("sec-websocket-protocol")
    if not offered:
        return []
    return [name.strip() for name in offered.split(",") if name.strip()]


def tokens(value: str) -> list[str]:
    """Returns the comma-separated tokens of a header, in lower case."""
    return [token.strip().lower() for token in value.split(",") if token.strip()]


def _names(token: str, value: str) -> bool:
    """Returns whether a header's value names a token; that it is nothing else is the common case."""
    return value.lower() == token or token in tokens(value)


def _is_key(key: str) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except ValueError:  # binascii.Error too
        return False


def _upgrade_required(detail: str) -> HeadRefused:
    extra = [(b"upgrade", b"websocket"), (b"sec-websocket-version", _VERSION.encode())]
    return HeadRefused(plain_answer(426, Refusal("bad_request", detail), extra))
