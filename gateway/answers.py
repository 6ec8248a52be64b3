"""HTTP answers as bytes, for what the stream side refuses before Starlette sees it; knows no socket."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from headgate.core.errors import Refusal
from headgate.core.framing import retry
from headgate.runtime.http.problem import CONTENT_TYPE, members_of, problem_of

Header = tuple[bytes, bytes]

_RETRY_LOW_MS: Final = 1_000
_RETRY_SPAN_MS: Final = 2_000


def problem_answer(refusal: Refusal, extra: Sequence[Header] = (), *, body: bool = True) -> bytes:
    """Returns the whole answer of a refusal; the connection ends after it. Without `body` for HEAD."""
    status, headers, text = problem_of(refusal)
    return _answer(status, [*headers, *extra], text if body else b"")


def plain_answer(status: int, refusal: Refusal, extra: Sequence[Header] = ()) -> bytes:
    """Returns a problem with a status that is not its code's (426, 431)."""
    text = msgspec.json.encode(members_of(refusal) | {"status": status, "title": HTTPStatus(status).phrase})
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(text))]
    return _answer(status, [*headers, *extra], text)


def stream_head(cors: Sequence[Header]) -> bytes:
    """Returns the head of an SSE stream: a body that is written until the connection closes (RFC 9112 section 6.3)."""
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ]
    return _answer(200, [*headers, *cors], b"")


def stream_begin(cors: Sequence[Header], chance: float) -> bytes:
    """Returns the head and the `retry` line, from 1 to 3 s by `chance` in [0, 1)."""
    return stream_head(cors) + retry(_RETRY_LOW_MS + int(chance * _RETRY_SPAN_MS))


def cors_headers(origin: str | None) -> list[Header]:
    """Returns what lets a page of an allowed origin read the answer."""
    if origin is None:
        return []
    return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin")]


def _answer(status: int, headers: Sequence[Header], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()]
    lines += [b"%b: %b\r\n" % header for header in headers]
    lines.append(b"connection: close\r\n\r\n")
    lines.append(body)
    return b"".join(lines)
