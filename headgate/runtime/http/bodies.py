"""The body of a request: which kinds are taken, how large it may be, how long it may take to come."""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.memory_budget import Share

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
IS_WHOLE: Final = "headgate.is_whole"  # an extension of the scope: call it to ask whether the body has come
_JSON: Final = JSON.encode()

Headers = Mapping[bytes, bytes]  # names in lower case


def media_type(headers: Headers, taken: frozenset[str]) -> str:
    """Returns the media type of a body, JSON where no header names one.

    Raises Refusal `unsupported_media_type` for one that is not `taken`, for any encoding, and for no UTF-8.
    """
    content_type = headers.get(b"content-type", b"")
    if content_type == _JSON and JSON in taken and b"content-encoding" not in headers:
        return JSON  # as nearly all requests have it
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip()
    if encoding.lower() not in ("identity", ""):
        detail = f"Content-Encoding {encoding[:32]} is not taken; send the body as it is"
        raise Refusal("unsupported_media_type", detail)
    named, _, parameters = content_type.decode("latin-1").lower().partition(";")
    named = named.strip() or JSON
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if named not in taken or charset not in ("", "utf-8", "utf8"):
        raise Refusal("unsupported_media_type", f"Content-Type must be {' or '.join(sorted(taken))}")
    return named


def announced_bytes(headers: Headers, limit: int) -> int | None:
    """Returns the length of a body of at most `limit` bytes; None where only reading it can tell.

    Raises Refusal `too_large`.
    """
    if not limit:
        return 0
    length = headers.get(b"content-length", b"" if b"transfer-encoding" in headers else b"0")
    if not length.isdigit():
        return None
    if int(length) > limit:
        raise Refusal("too_large", f"a body of {int(length)} bytes; at most {limit} are taken")
    return int(length)


async def read_body(scope: Scope, receive: Receive, limit: int, deadline_s: float, share: Share | None) -> bytes:
    """Returns the whole body; without a `share` it is waited for and thrown away.

    Raises Refusal `too_large`, `request_timeout` or `overloaded`, and ClientDisconnect when the client has gone away.
    """
    is_whole = scope.get("extensions", {}).get(IS_WHOLE)
    if is_whole is not None and is_whole():  # as nearly all are: nothing is waited for
        return await _gather(receive, limit, share)
    try:
        async with asyncio.timeout(deadline_s):
            return await _gather(receive, limit, share)
    except TimeoutError:
        raise Refusal("request_timeout", f"the body was not whole after {deadline_s:g} s") from None


async def _gather(receive: Receive, limit: int, share: Share | None) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise Refusal("too_large", f"the body has more than {limit} bytes")
        if share is not None and chunk:
            share.hold(size)
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
