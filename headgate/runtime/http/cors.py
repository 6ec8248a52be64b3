"""The headers that let a page of another origin read an answer (Fetch standard, CORS protocol)."""

import re
from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.answers import Header
from headgate.runtime.http.origins import Origins

PREFLIGHT_AGE_S: Final = 600
MAX_ASKED: Final = 64
_EXPOSED: Final = (
    b"access-control-expose-headers",
    b"Allow, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate",
)
_VARY: Final = (b"vary", b"Origin")
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")  # a token, RFC 9110 section 5.6.2


def cors_headers(origins: Origins, origin: str | None, host: str | None) -> list[Header]:
    """Returns the headers of an answer to a request with this `Origin` and `Host`; `Vary` always."""
    if origin is None or not origins.allows(origin, host):
        return [_VARY]
    headers = [(b"access-control-allow-origin", origin.encode("latin-1")), _EXPOSED, _VARY]
    if origins.lets_credentials(origin):
        headers.append((b"access-control-allow-credentials", b"true"))
    return headers


def preflight_headers(
    origins: Origins, origin: str | None, host: str | None, methods: list[str], asked: str | None
) -> list[Header]:
    """Returns the further headers of the answer to a preflight; `asked` is Access-Control-Request-Headers.

    Raises Refusal: `forbidden` for a page that may not call, `bad_request` for illegal header names.
    """
    if origin is None or not origins.allows(origin, host):
        raise Refusal("forbidden", "pages of this origin may not call; see http.origins")
    headers = [
        (b"access-control-allow-methods", ", ".join(methods).encode()),
        (b"access-control-max-age", b"%d" % PREFLIGHT_AGE_S),
    ]
    names = [name.strip() for name in (asked or "").split(",") if name.strip()]
    if len(names) > MAX_ASKED or any(_NAME.fullmatch(name) is None for name in names):
        raise Refusal("bad_request", f"Access-Control-Request-Headers must be at most {MAX_ASKED} header names")
    if names:
        headers.append((b"access-control-allow-headers", ", ".join(names).encode()))
    return headers
