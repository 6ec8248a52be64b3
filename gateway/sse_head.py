"""The beginning of an SSE answer: its head, with the headers for pages of other origins, and its `retry` line."""

from collections.abc import Sequence
from typing import Final

from headgate.core.client.framing import retry
from headgate.runtime.http.answers import Header, closing_answer

_RETRY_LOW_MS: Final = 1_000
_RETRY_SPAN_MS: Final = 2_000


_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_BEGIN: Final = closing_answer(200, _HEADERS, b"").removesuffix(b"\r\n")  # the same for all streams


def stream_head(cors: Sequence[Header]) -> bytes:
    """Returns the head of an SSE stream: a body that is written until the connection closes (RFC 9112 section 6.3)."""
    return b"".join([_BEGIN, *[b"%b: %b\r\n" % header for header in cors], b"\r\n"])


def stream_begin(cors: Sequence[Header], chance: float) -> bytes:
    """Returns the head and the `retry` line, from 1 to 3 s by `chance` in [0, 1)."""
    return stream_head(cors) + retry(_RETRY_LOW_MS + int(chance * _RETRY_SPAN_MS))
