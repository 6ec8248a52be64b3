"""One request and its answer as handlers have them, without a server or a path table."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec

from headgate.core.publish.body import check_client_msg_id, read_object
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime.http.bodies import JSON
from headgate.runtime.http.memory_budget import Share
from headgate.runtime.http.queries import Query

_encode = msgspec.json.Encoder().encode


NOBODY: Final = Caller("")


class Call(NamedTuple):
    """A request that passed the common checks, with its whole body.

    Where the endpoint is for anyone, `caller` is NOBODY and `query` is empty. `path_parameters` are percent-decoded, by
    name. `share` counts the bytes that the answer holds beyond the body. `peer` is the address of the other end of the
    connection, a proxy's where one is between; `request_id` is the header X-Request-Id as it came. Both are for logs.
    `identity` says of which token the caller is. `trace` is the header `traceparent` as it came.
    `accepts_openmetrics`: a scraper that reads exemplars asks.
    """

    caller: Caller
    path_parameters: dict[str, str]
    query: Query
    query_string: bytes
    media_type: str
    idempotency_key: str | None
    body: bytes
    share: Share
    peer: str = ""
    request_id: bytes = b""
    identity: Identity = Identity(NOBODY)
    trace: bytes = b""
    accepts_openmetrics: bool = False

    def json_object(self) -> dict[str, Any]:
        """Returns the body as an object. Raises Refusal `bad_request` for another body."""
        return read_object(self.body)

    def check_key(self) -> None:
        """Raises Refusal `bad_request` for an Idempotency-Key that is none."""
        if self.idempotency_key is not None:
            check_client_msg_id(self.idempotency_key, "the header Idempotency-Key")


class Reply(NamedTuple):
    """An answer that is no problem; `headers` are those beyond Content-Type and Content-Length.

    With a `stream` it has no other body, and goes on until that ends or the client is gone; then the stream is closed.
    """

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = JSON.encode()
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[[Call], Awaitable[Reply]]
NO_CONTENT: Final = Reply(204, b"")


def reply(value: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """Returns a JSON answer."""
    return Reply(status, _encode(value), headers)
