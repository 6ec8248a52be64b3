"""The one renderer of errors: a Refusal as `application/problem+json` (RFC 9457).

A refusal's `extra` becomes further members of the body, except `allow`, the methods of a 405, and `headers`.
"""

from typing import Any, Final

import msgspec

from headgate.core.wire.errors import CODES, Refusal

Headers = list[tuple[bytes, bytes]]

CONTENT_TYPE: Final = b"application/problem+json"
SITE: Final = "https://headgate.dev/"  # where the pages of docs/ are published
DOCUMENTATION: Final = SITE + "reference/errors.html#"  # docs/reference/errors.md, one anchor a code
RETRY_AFTER_S: Final = 1  # where the refusal has no time of its own
_MUST_RETRY: Final = frozenset({429, 503})
_NO_MEMBERS: Final = frozenset({"allow", "headers"})


def problem_of(refusal: Refusal) -> tuple[int, Headers, bytes]:
    """Returns status, headers (names in lower case, Content-Length included) and body of a refusal's answer."""
    status = refusal.status
    body = msgspec.json.encode(members_of(refusal))
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(body))]
    if status in _MUST_RETRY:
        headers.append((b"retry-after", b"%d" % retry_after_s(refusal)))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if "allow" in refusal.extra:
        headers.append((b"allow", ", ".join(refusal.extra["allow"]).encode()))
    headers += refusal.extra.get("headers", ())
    return status, headers, body


def members_of(refusal: Refusal) -> dict[str, Any]:
    """Returns the members of the problem; the results of a batch have the same."""
    code = CODES[refusal.code]
    members: dict[str, Any] = {
        "type": DOCUMENTATION + refusal.code,
        "title": code.title,
        "status": code.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "retryable": code.retryable,
    }
    members |= {name: value for name, value in refusal.extra.items() if name not in _NO_MEMBERS}
    return members


def retry_after_s(refusal: Refusal) -> int:
    """Returns the whole seconds, at least 1, after which the same request may succeed."""
    if refusal.retry_after_ms is None:
        return RETRY_AFTER_S
    return max(1, -(-refusal.retry_after_ms // 1_000))
