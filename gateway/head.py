"""The head of a request, and whether it asks for a stream; knows neither sessions nor answers."""

from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

import httptools

from headgate.core.errors import HeadgateError, Refusal

END: Final = b"\r\n\r\n"
WEBSOCKET_PATHS: Final = (["", "ws", "subscribe"], ["", "connect"])  # segments: %2F is part of one, no border
SSE_PATH: Final = ["", "sse", "subscribe"]
_MAX_QUERY_FIELDS: Final = 2_048


class BadHead(HeadgateError):
    """The HTTP parser refused it."""


class Route(NamedTuple):
    """What a path asks for: `kind` is `websocket`, `sse` or `other`; `topic_id` where the path names it."""

    kind: str
    topic_id: str | None = None


class Head(NamedTuple):
    """A request's head. Header names are lower case; a repeated header's values are joined by a comma."""

    method: str
    version: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    rest: bytes

    def last_of(self, name: str) -> str | None:
        """Returns the last value of a query parameter."""
        return dict(self.query).get(name)


OTHER: Final = Route("other")


def route_of(data: bytes) -> Route:
    """Says what the request line at the begin of `data` asks for; `other` is what HTTP handlers answer."""
    target = data[: data.find(b"\r\n")].split(b" ", 2)
    if len(target) != 3 or target[0] not in (b"GET", b"HEAD"):
        return OTHER
    segments = segments_of(target[1].partition(b"?")[0])
    if segments in WEBSOCKET_PATHS:
        return Route("websocket") if target[0] == b"GET" else OTHER
    if segments == SSE_PATH:
        return Route("sse")
    topic_id = topic_of(segments)
    return OTHER if topic_id is None else Route("sse", topic_id)


def segments_of(raw_path: bytes) -> list[str]:
    """Returns the segments of a path, each percent-decoded once; the first is empty."""
    return [unquote(segment) for segment in raw_path.decode("latin-1").split("/")]


def topic_of(segments: list[str]) -> str | None:
    """Returns the topic that `/api/v1/topics/{topic_id}/subscribe` names, None for any other path."""
    if len(segments) == 6 and segments[:4] == ["", "api", "v1", "topics"] and segments[5] == "subscribe":
        return segments[4]
    return None


def read_head(data: bytes) -> Head:
    """Reads a complete head. Raises BadHead, and Refusal `bad_request` for the query."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    rest = data[data.index(END) + len(END) :]
    try:
        parser.feed_data(data[: len(data) - len(rest)])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadHead(str(error)) from None
    try:
        query = parse_qsl(
            reader.url.partition(b"?")[2].decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=_MAX_QUERY_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise Refusal("bad_request", "the query string cannot be read") from None
    return Head(parser.get_method().decode(), parser.get_http_version(), query, reader.headers, rest)


class _Reader:
    """Takes httptools' callbacks."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text
