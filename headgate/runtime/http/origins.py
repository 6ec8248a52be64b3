"""Which pages in a browser may call (`http.origins`): one rule for CORS and for the WebSocket `Origin`."""

import ipaddress
import re
from typing import Final, NamedTuple

ANY: Final = "*"
NULL: Final = "null"  # the origin of sandboxed frames and of files
LOOPBACK: Final = "loopback"  # any origin on this machine's loopback names
_WORDS: Final = frozenset({ANY, NULL, LOOPBACK})
_PAGES: Final = ("http", "https")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}  # RFC 6454 section 4: the same origin as without
_WILDCARD: Final = "*."
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|(?:\*\.)?[a-z0-9_~-][a-z0-9._~-]*)(:[0-9]{1,5})?")


class Origin(NamedTuple):
    """A scheme, a host without its trailing dot, and ":port" ("" for the scheme's default), in lower case."""

    scheme: str
    host: str
    port: str


class Origins:
    """The rule. `allowed` is the setting `http.origins`. Where it names no origin, the same origin may call.

    In open mode (`is_open`) no answer may be read with a browser's credentials.
    """

    def __init__(self, allowed: tuple[str, ...] | None = None, *, is_open: bool = False) -> None:
        named = [entry for text in allowed or () if (entry := read_origin(text)) is not None]
        self.words = frozenset(text.lower() for text in allowed or ()) & _WORDS
        self.named = frozenset(entry for entry in named if not entry.host.startswith(_WILDCARD))
        self.wildcards = frozenset(entry for entry in named if entry.host.startswith(_WILDCARD))
        self._same = not named
        self._is_open = is_open

    def allows(self, origin: str, host: str | None) -> bool:
        """Returns whether a page of `origin` may call; `host` is the request's Host header."""
        if ANY in self.words:
            return True
        if origin == NULL:
            return NULL in self.words
        page = read_origin(origin)
        if page is None:
            return False
        if self._names(page) or (LOOPBACK in self.words and _is_loopback_page(page)):
            return True
        # Behind a proxy that ends TLS this port does not know the page's scheme.
        return (
            self._same and host is not None and page.scheme in _PAGES and page == read_origin(f"{page.scheme}://{host}")
        )

    def lets_credentials(self, origin: str) -> bool:
        """Returns whether a page of an allowed origin may call with cookies: only a page that an entry names."""
        page = read_origin(origin)
        return not self._is_open and page is not None and self._names(page)

    def _names(self, page: Origin) -> bool:
        return page in self.named or page._replace(host=_one_label_up(page.host)) in self.wildcards


def read_origin(text: str) -> Origin | None:
    """Reads `scheme://host[:port]`, where the host's first label may be `*`; None for anything else."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match[1], match[2], match[3] or ""
    return Origin(scheme, host.removesuffix("."), "" if port == _DEFAULT_PORTS.get(scheme) else port)


def is_entry(text: str) -> bool:
    """Returns whether this can be an entry of `http.origins`."""
    return text in _WORDS or read_origin(text) is not None


def is_loopback_name(host: str) -> bool:
    """Returns whether a host (an IPv6 address in brackets) is localhost, a name below it, or a loopback address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _is_loopback_page(page: Origin) -> bool:
    return page.scheme in _PAGES and is_loopback_name(page.host)


def _one_label_up(host: str) -> str:
    return _WILDCARD + host.partition(".")[2]
