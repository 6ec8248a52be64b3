"""The head of a request, and whether it asks for a stream."""

from typing import Final, NamedTuple

import httptools

from headgate.core.wire.errors import HeadgateError
from headgate.runtime.http.endpoints import endpoints_of
from headgate.runtime.http.heads import END, malformed, refusal_of_fields
from headgate.runtime.http.paths import Paths
from headgate.runtime.http.queries import fields_of

_STREAMS: Final = Paths([row for row in endpoints_of("gateway") if row.is_stream])


class HeadRefused(HeadgateError):
    """The request is refused because of its head; `answer` is the whole HTTP answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("the head was refused")
        self.answer = answer


class StreamRoute(NamedTuple):
    """Who answers a request: `kind` is `websocket`, `sse` or `other`. `topic_id` is set where the path names it."""

    kind: str
    topic_id: str | None = None


class Head(NamedTuple):
    """A request's head. Header names are lower case; a repeated header's values are joined by a comma.

    `query` holds the fields in order, with bytes that are not UTF-8 replaced; `complete` is false where more than 2,048
    were sent. `rest` are the bytes behind the head.
    """

    method: str
    version: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    rest: bytes
    complete: bool = True


OTHER: Final = StreamRoute("other")


def route_of(data: bytes) -> StreamRoute:
    """Returns who answers the request whose line begins `data`; `other` goes to the HTTP application."""
    line = data[: data.find(b"\r\n")].split(b" ", 2)
    if len(line) != 3 or line[0] not in (b"GET", b"HEAD"):
        return OTHER
    usual = _USUAL.get((line[0], line[1].partition(b"?")[0]))
    return _route_to(line[0], _path_of(line[1])) if usual is None else usual


def _route_to(method: bytes, path: bytes) -> StreamRoute:
    found = _STREAMS.find(path)
    served = None if found is None else found[0].by_name.get(method.decode())
    if found is None or served is None:
        return OTHER
    return StreamRoute("websocket" if served.endpoint.is_websocket else "sse", found[1].get("topic_id"))


# The streams whose paths have no parameter, as they are usually asked for.
_USUAL: Final = {
    (b"GET", row.path.encode()): _route_to(b"GET", row.path.encode())
    for row in endpoints_of("gateway")
    if row.is_stream and "{" not in row.path
}


def read_head(data: bytes) -> Head:
    """Reads a complete head. Raises HeadRefused with 400 or 501."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    end = data.index(END) + len(END)
    try:
        parser.feed_data(data if end == len(data) else data[:end])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise HeadRefused(malformed()) from None
    version = parser.get_http_version()
    answer = refusal_of_fields(version, reader.fields)
    if answer is not None:
        raise HeadRefused(answer)
    query, complete = fields_of(reader.url.partition(b"?")[2])
    return Head(parser.get_method().decode(), version, query, _joined(reader.fields), data[end:], complete)


def _path_of(target: bytes) -> bytes:
    """Returns the path of a request target, in absolute form (RFC 9112 section 3.2.2) too."""
    if not target.startswith(b"/"):
        try:
            return httptools.parse_url(target).path or b"/"
        except httptools.HttpParserError:
            return b""
    return target.partition(b"?")[0].partition(b"#")[0]


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers = {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in fields}
    if len(headers) < len(fields):
        for name in headers:
            values = [value.decode("latin-1").strip() for key, value in fields if key == name.encode("latin-1")]
            headers[name] = ", ".join(values)
    return headers


class _Reader:
    """Keeps the URL and the fields that httptools reports."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))
