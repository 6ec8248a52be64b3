"""One request and its answer, as handlers see them; knows no server and no path table."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from ingest.memory_budget import Share

NDJSON: Final = "application/x-ndjson"
MAX_NUMBER: Final = (1 << 53) - 1
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000

Query = dict[str, str]
encode = msgspec.json.Encoder().encode


class Call(NamedTuple):
    """An authenticated request whose body was read. `segments` are the path's parameters, percent-decoded.

    `share` counts what its answer holds beyond the body.
    """

    caller: Caller
    segments: tuple[str, ...]
    query: Query
    media_type: str
    idempotency_key: str | None
    body: bytes
    share: Share


class Reply(NamedTuple):
    """An answer that is no problem; `headers` are beyond Content-Type and Content-Length."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Call], Awaitable[Reply]]
NO_CONTENT: Final = Reply(204, b"")


def reply(value: Any, status: int = 200) -> Reply:
    """Returns a JSON answer."""
    return Reply(status, encode(value))


def integer(query: Query, name: str, default: int, low: int = 0, high: int = MAX_NUMBER) -> int:
    """Returns an integer of the query string. Raises Refusal `bad_request`."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
        raise Refusal("bad_request", f"{name} must be an integer from {low} to {high}")
    return int(text)


def page_limit(query: Query) -> int:
    """Returns the query's `limit`: 1 to 1,000. Raises Refusal `bad_request`."""
    return integer(query, "limit", DEFAULT_PAGE, 1, MAX_PAGE)


async def settled(futures: "set[asyncio.Future[Any]]") -> None:
    """Waits until all are done, whatever their outcome, and cancels none."""
    if futures:
        await asyncio.wait(futures)
