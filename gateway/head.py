"""The head of a request, and whether it asks for a stream; knows neither sessions nor answers."""

from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

import httptools

from headgate.core.wire.errors import HeadgateError, Refusal
from headgate.runtime.http.heads import END, malformed, refusal_of_fields

WEBSOCKET_PATHS: Final = (["", "ws", "subscribe"], ["", "connect"])  # segments: %2F is part of one, no border
SSE_PATH: Final = ["", "sse", "subscribe"]
_MAX_QUERY_FIELDS: Final = 2_048


class HeadRefused(HeadgateError):
    """The request is refused before anybody looks at what it asks for; `answer` is the whole HTTP answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("the head was refused")
        self.answer = answer


class StreamRoute(NamedTuple):
    """What a path asks for: `kind` is `websocket`, `sse` or `other`; `topic_id` where the path names it."""

    kind: str
    topic_id: str | None = None


class Head(NamedTuple):
    """A request's head. Header names are lower case; a repeated header's values are joined by a comma.

    `query` holds the fields in order, what is not UTF-8 replaced; `complete` is false where there were too many.
    """

    method: str
    version: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    rest: bytes
    complete: bool = True


OTHER: Final = StreamRoute("other")


def route_of(data: bytes) -> StreamRoute:
    """Says what the request line at the begin of `data` asks for; `other` is what HTTP handlers answer."""
    target = data[: data.find(b"\r\n")].split(b" ", 2)
    if len(target) != 3 or target[0] not in (b"GET", b"HEAD"):
        return OTHER
    segments = segments_of(_path_of(target[1]))
    if segments in WEBSOCKET_PATHS:
        return StreamRoute("websocket") if target[0] == b"GET" else OTHER
    if segments == SSE_PATH:
        return StreamRoute("sse")
    topic_id = topic_of(segments)
    return OTHER if topic_id is None else StreamRoute("sse", topic_id)


def segments_of(raw_path: bytes) -> list[str]:
    """Returns the segments of a path, each percent-decoded once; the first is empty."""
    return [unquote(segment) for segment in raw_path.decode("latin-1").split("/")]


def topic_of(segments: list[str]) -> str | None:
    """Returns the topic that `/api/v1/topics/{topic_id}/subscribe` names, None for any other path."""
    if len(segments) == 6 and segments[:4] == ["", "api", "v1", "topics"] and segments[5] == "subscribe":
        return segments[4]
    return None


def read_head(data: bytes) -> Head:
    """Reads a complete head. Raises HeadRefused with 400 or 501."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    rest = data[data.index(END) + len(END) :]
    try:
        parser.feed_data(data[: len(data) - len(rest)])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise HeadRefused(malformed()) from None
    version = parser.get_http_version()
    answer = refusal_of_fields(version, reader.fields)
    if answer is not None:
        raise HeadRefused(answer)
    query, complete = _fields_of(reader.url.partition(b"?")[2])
    return Head(parser.get_method().decode(), version, query, _joined(reader.fields), rest, complete)


def too_many_fields() -> Refusal:
    """Returns what is wrong with a query string that is not `complete`."""
    return Refusal("bad_request", f"the query string has more than {_MAX_QUERY_FIELDS} fields")


def _path_of(target: bytes) -> bytes:
    """Returns the path of a request target, in absolute form (RFC 9112 section 3.2.2) too."""
    if not target.startswith(b"/"):
        try:
            return httptools.parse_url(target).path or b"/"
        except httptools.HttpParserError:
            return b""
    return target.partition(b"?")[0].partition(b"#")[0]


def _fields_of(query: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Returns the fields of a query string, and whether they are all of them."""
    complete = query.count(b"&") < _MAX_QUERY_FIELDS
    if not complete:
        query = b"&".join(query.split(b"&", _MAX_QUERY_FIELDS)[:-1])
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True), complete


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers = {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in fields}
    if len(headers) < len(fields):
        for name in headers:
            values = [value.decode("latin-1").strip() for key, value in fields if key == name.encode("latin-1")]
            headers[name] = ", ".join(values)
    return headers


class _Reader:
    """Takes httptools' callbacks."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))
