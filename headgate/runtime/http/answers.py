"""Whole HTTP answers as bytes, for requests that a protocol refuses before any application sees them."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.problem import CONTENT_TYPE, members_of, problem_of

Header = tuple[bytes, bytes]

ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)  # docs/protocol.md, section 0


def problem_answer(refusal: Refusal, extra: Sequence[Header] = (), *, body: bool = True) -> bytes:
    """Returns the whole answer of a refusal; the connection ends after it. Without `body` for HEAD."""
    status, headers, text = problem_of(refusal)
    return closing_answer(status, [*headers, *extra], text if body else b"")


def plain_answer(status: int, refusal: Refusal, extra: Sequence[Header] = ()) -> bytes:
    """Returns a problem with a status that is not its code's (426, 431)."""
    text = msgspec.json.encode(members_of(refusal) | {"status": status, "title": HTTPStatus(status).phrase})
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(text))]
    return closing_answer(status, [*headers, *extra], text)


def head_too_large() -> bytes:
    """Returns the answer to a head above the limit."""
    return plain_answer(431, Refusal("too_large", "the request's head is too large"))


def head_too_late() -> bytes:
    """Returns the answer to a head that is incomplete at its deadline."""
    return problem_answer(Refusal("request_timeout", "the request's head did not come in time"))


def closing_answer(status: int, headers: Sequence[Header], body: bytes) -> bytes:
    """Returns an answer after which the connection ends; those of `ALWAYS` that are not in `headers` are added."""
    named = {name for name, _ in headers}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()]
    lines += [b"%b: %b\r\n" % header for header in ALWAYS if header[0] not in named]
    lines += [b"%b: %b\r\n" % header for header in headers]
    lines.append(b"connection: close\r\n\r\n")
    lines.append(body)
    return b"".join(lines)
