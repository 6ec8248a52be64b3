"""Which endpoints a path has: the lookup that is made from rows of the table of endpoints."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.call import Handler
from headgate.runtime.http.endpoints import Endpoint
from headgate.runtime.http.request_text import decoded


class ServedEndpoint(NamedTuple):
    """An endpoint with its handler. `body_bytes` is the largest body, 0 where none is read.

    `handler` is None for streams: no application answers them.
    """

    endpoint: Endpoint
    handler: Handler | None
    body_bytes: int
    media_types: frozenset[str]
    is_for_anyone: bool


class Methods:
    """The methods of one path. HEAD is served like GET, except on the path of a WebSocket."""

    __slots__ = ("allow", "by_name")

    def __init__(self, by_name: dict[str, ServedEndpoint]) -> None:
        self.by_name = by_name
        get = by_name.get("GET")
        if get is not None and not get.endpoint.is_websocket:
            by_name["HEAD"] = get
        self.allow = sorted(by_name)

    def refusal(self) -> Refusal:
        """Returns the refusal of a method that is not among them."""
        return Refusal("method_not_allowed", f"this path takes {', '.join(self.allow)}", allow=self.allow)


Found = tuple[Methods, dict[str, str]]  # and the parameters of the path


class Paths:
    """Finds the endpoints of a path. `needs_users` is true where one of them is not for anyone.

    At one place in a path all rows have fixed segments, or all the same parameter.
    """

    def __init__(
        self,
        rows: Iterable[Endpoint],
        handlers: Mapping[str, Handler] = MappingProxyType({}),
        bounds: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Binds rows to `handlers` by name; `bounds` holds the bytes of bounds that are names of settings.

        Raises ValueError for a row without a handler, a handler without a row, and rows that contradict each other.
        """
        self.needs_users = False
        by_path: dict[str, dict[str, ServedEndpoint]] = {}
        unused = set(handlers)
        for row in rows:
            methods = by_path.setdefault(row.path, {})
            if row.method in methods:
                raise ValueError(f"{row.method} {row.path} has two rows")
            methods[row.method] = _served(row, handlers, bounds)
            unused.discard(row.handler)
            self.needs_users |= row.who == "user"
        if unused:
            raise ValueError(f"no row names {', '.join(sorted(unused))}")
        self._root = _Node()
        self._fixed: dict[bytes, Methods] = {}  # the paths without parameters, as they are usually written
        for path, methods in by_path.items():
            found = self._root.add(path).methods = Methods(methods)
            if "{" not in path:
                self._fixed[path.encode()] = found

    def find(self, raw_path: bytes) -> Found | None:
        """Returns the methods of a path and its parameters, percent-decoded once; None for an unknown path.

        `%2F` is part of a segment. A parameter is never empty.
        """
        fixed = self._fixed.get(raw_path)
        if fixed is not None:
            return fixed, {}
        node, parameters = self._root, dict[str, str]()
        for segment in segments_of(raw_path):
            child = node.fixed.get(segment)
            if child is None:
                child = node.parameter
                if child is None or not segment:
                    return None
                parameters[node.name] = segment
            node = child
        return None if node.methods is None else (node.methods, parameters)


def segments_of(raw_path: bytes) -> list[str]:
    """Returns the segments of a path that begins with a slash, each percent-decoded once.

    A NUL stands where bytes are not UTF-8.
    """
    if b"%" in raw_path:
        return [decoded(unquote_to_bytes(part)) for part in raw_path.split(b"/")[1:]]
    return decoded(raw_path).split("/")[1:]


class _Node:
    """The segments that may follow one place in a path."""

    __slots__ = ("fixed", "methods", "name", "parameter")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.name = ""
        self.methods: Methods | None = None

    def add(self, path: str) -> "_Node":
        """Returns the node of a path; makes those that are missing."""
        node = self
        for segment in path.split("/")[1:]:
            node = node.add_parameter(segment[1:-1], path) if segment.startswith("{") else node.add_fixed(segment, path)
        return node

    def add_fixed(self, segment: str, path: str) -> "_Node":
        if self.parameter is not None:
            raise ValueError(f"{path}: {segment!r} is where another path has a parameter")
        return self.fixed.setdefault(segment, _Node())

    def add_parameter(self, name: str, path: str) -> "_Node":
        if self.fixed or self.name not in ("", name):
            raise ValueError(f"{path}: the parameter {name!r} is where another path has something else")
        self.name = name
        if self.parameter is None:
            self.parameter = _Node()
        return self.parameter


def _served(row: Endpoint, handlers: Mapping[str, Handler], bounds: Mapping[str, int]) -> ServedEndpoint:
    if row.handler not in handlers and not (row.is_stream and not row.handler):
        raise ValueError(f"{row.method} {row.path}: there is no handler {row.handler!r}")
    size, media_types = 0, frozenset[str]()
    if row.body is not None:
        size = row.body.bound if isinstance(row.body.bound, int) else bounds[row.body.bound]
        media_types = row.body.media_types
    return ServedEndpoint(row, handlers.get(row.handler), size, media_types, row.who == "anyone")
