"""Which pages in a browser may call (`http.origins`): one rule for CORS and for the WebSocket `Origin`; knows no header
format of either."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

ANY: Final = "*"
LOOPBACK: Final = "loopback"  # stands for any origin on this machine's loopback names


class Origins:
    """The rule. `allowed` is the setting as it stands; where it names no origin the same origin may call."""

    def __init__(self, allowed: tuple[str, ...] | None = None) -> None:
        words = frozenset(origin.lower() for origin in allowed or ())
        self._allowed = words - {ANY, LOOPBACK}
        self._any = ANY in words
        self._loopback = LOOPBACK in words
        self._same = not self._allowed

    def allows(self, origin: str, host: str | None) -> bool:
        """Says whether a page of `origin` may call; `host` is the request's Host header."""
        origin = origin.lower()
        if self._any or origin in self._allowed:
            return True
        if self._same and host is not None and origin in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return True
        return self._loopback and is_loopback_origin(origin)


def is_loopback_origin(origin: str) -> bool:
    """Says whether an origin is http or https on localhost, a name below it, or a loopback address."""
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https"):
            return False
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
