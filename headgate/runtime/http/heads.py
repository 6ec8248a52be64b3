"""Checks the head of a request before a parser sees it (RFC 9112): pure functions on bytes."""

import re
from collections.abc import Sequence
from typing import Final

import httptools

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.answers import head_too_large, plain_answer, problem_answer

END: Final = b"\r\n\r\n"
HEAD_FIELDS: Final = 128  # each costs a call: 13,000 fields of five bytes would keep the loop for 15 ms
BUDGET_BYTES: Final = 32 * 1024 * 1024
WAITING_BYTES: Final = 64 * 1024 * 1024  # one connection may have 16 waiting heads of 64 KiB, and bodies

_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BLANK: Final = re.compile(rb"[\r\n]{0,64}")  # a flood of them is no request
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-fVv:.]+\])(?::[0-9]*)?")
_VERSIONS: Final = frozenset({"1.1", "1.0"})
_SINGLE: Final = (b"host", b"authorization", b"idempotency-key", b"transfer-encoding")  # docs/protocol.md, section 0

Fields = Sequence[tuple[bytes, bytes]]


class HeadBudget:
    """At most `most` bytes of heads that are held, for all connections of one port together.

    They are incomplete, or wait unparsed. Apart from them `waiting` counts the requests, with their bodies, that wait
    for the answers before them: at `most_waiting` bytes no further one is taken.
    """

    def __init__(self, most: int = BUDGET_BYTES, most_waiting: int = WAITING_BYTES) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self.held = 0
        self.waiting = 0

    def has_room(self, size: int) -> bool:
        """Returns whether a request of so many bytes may wait."""
        return self.waiting + size <= self._most_waiting

    def move(self, before: int, after: int) -> bool:
        """A connection holds `after` bytes instead of `before`; false when there is no room for more."""
        self.held += after - before
        return after <= before or self.held <= self._most


def begin_of(data: bytes, at: int) -> int:
    """Returns where the request line begins: RFC 9112 section 2.2 allows empty lines before it."""
    if data[at : at + 1].isalpha():
        return at
    match = _BLANK.match(data, at)
    return at if match is None else match.end()


def refusal_of_start(data: bytes, searched: int, head_bytes: int) -> bytes | None:
    """Returns the answer to an incomplete head that can never be valid; None where the rest may come.

    A line that ends in LF alone never brings the END that we wait for. The first `searched` bytes have none: a head
    that comes byte by byte is not searched from its begin for each of them.
    """
    if len(data) > head_bytes:
        return head_too_large()
    if data and (not data[:1].isalpha() or _BARE_LF.search(data, searched)):
        return malformed()
    return None


def refusal_of_head(head: bytes, head_bytes: int) -> bytes | None:
    """Returns the answer to a complete head with too many bytes or fields; counted before anything is parsed."""
    if not head[:1].isalpha():
        return malformed()
    if len(head) > head_bytes or head.count(b"\n") > HEAD_FIELDS + 2:
        return head_too_large()
    return None


def without_upgrade(head: bytes) -> bytes:
    """Returns a complete head without its `Upgrade` fields.

    A server may ignore them (RFC 9110 section 7.8) and read the body as usual. httptools does not ignore them: it ends
    the message at the head, and the body would become the next request.
    """
    return _UPGRADE.sub(b"", head) if b"upgrade:" in head.lower() else head


def with_path(target: bytes) -> bytes:
    """Returns a request target with a path: an absolute form without one means `/` (RFC 9110 section 4.2.3)."""
    if target.startswith(b"/"):
        return target
    parsed = httptools.parse_url(target)
    return target if parsed.path else b"/?" + (parsed.query or b"")


def refusal_of_fields(version: str, fields: Fields) -> bytes | None:
    """Returns the answer (400, 501, 505) to fields that no application may see, else None. Names are in lower case."""
    if version not in _VERSIONS:  # what else the parser takes has no Host, or other rules
        return plain_answer(505, Refusal("bad_request", "only HTTP/1.1 and HTTP/1.0 are understood"))
    named = dict(fields)
    if len(named) < len(fields):
        names = [name for name, _ in fields]
        for name in _SINGLE:
            if names.count(name) > 1:
                return _bad(f"the header {name.decode()} stands there more than once")
    coding = named.get(b"transfer-encoding")
    if coding is not None and coding.strip().lower() != b"chunked":
        detail = "the only Transfer-Encoding that is understood is 'chunked'"
        return plain_answer(501, Refusal("bad_request", detail))
    host = named.get(b"host")
    if host is None:
        return _bad("a request needs a Host header") if version == "1.1" else None
    return None if _HOST.fullmatch(host.strip()) else _bad("the Host header is no host with an optional port")


def malformed() -> bytes:
    """Returns the answer to bytes that are no HTTP request."""
    return _bad("this is no HTTP/1.1 request")


def overloaded() -> bytes:
    """Returns the answer where there is no room for an incomplete head."""
    return problem_answer(Refusal("overloaded", "too many requests that are not complete; try again"))


def _bad(detail: str) -> bytes:
    return problem_answer(Refusal("bad_request", detail))
