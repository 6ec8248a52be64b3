"""The CPU of one publish in the HTTP layer, ours and Starlette's. `python -m bench.http_layer`

The handlers do nothing. Both get the same ASGI calls, check the same token and wait for the body with a deadline.
There is no socket and no server.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from headgate.core.wire.rights import Caller
from headgate.runtime.http.application import DEADLINE_S, HttpApp
from headgate.runtime.http.bodies import announced_bytes, media_type
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.callers import Users
from headgate.runtime.http.credentials import of_request
from headgate.runtime.http.endpoints import endpoints_of
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.paths import Paths
from headgate.runtime.system import SystemClock
from headgate.runtime.tokens import Authenticator, TokenKey, mint

COUNT: Final = 20_000
ROUNDS: Final = 7  # the best one counts
SECRET: Final = "a secret of at least thirty-two bytes"
BODY: Final = b'{"payload":{"text":"hello"}}'
PATH: Final = "/api/v1/topics/hello/publish"
BOUNDS: Final = {"limits.body_bytes": 256 * 1024, "limits.batch_bytes": 8 * 1024 * 1024}

CLOCK: Final = SystemClock()
KEY: Final = TokenKey(SECRET)
AUTHENTICATOR: Final = Authenticator("jwt", KEY, CLOCK)
TOKEN: Final = mint(KEY, Caller("bob"), now_s=CLOCK.wall_ms() / 1_000, ttl_s=3_600)
HEADERS: Final = [
    (b"host", b"127.0.0.1:8080"),
    (b"accept", b"*/*"),
    (b"user-agent", b"bench"),
    (b"authorization", f"Bearer {TOKEN}".encode()),
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(BODY)),
]
Work = Callable[[], Awaitable[object]]


async def answer(_: Call) -> Reply:
    """Our handler."""
    return Reply(200, b"{}")


async def starlette_answer(request: Request) -> Response:
    """A Starlette endpoint with the checks of a publish that Starlette has parts for."""
    headers = request.headers
    AUTHENTICATOR.authenticate(of_request(headers.get("authorization")))
    about = {name.encode(): headers.get(name, "").encode() for name in ("content-type", "content-length")}
    announced_bytes(about, BOUNDS["limits.body_bytes"])
    media_type(about, frozenset({"application/json"}))
    async with asyncio.timeout(DEADLINE_S):
        await request.body()
    vary = {"vary": "Origin"} if headers.get("origin") is None else {}
    return Response(b"{}", media_type="application/json", headers=vary)


ROWS: Final = endpoints_of("ingest")
PATHS: Final = Paths(ROWS, dict.fromkeys((row.handler for row in ROWS), answer), BOUNDS)
OURS: Final = HttpApp(PATHS, Users(AUTHENTICATOR, Origins()))
ROUTES: Final = [Route(row.path, starlette_answer, methods=[row.method]) for row in ROWS]
STARLETTE: Final = Router(ROUTES)


def scope() -> dict[str, Any]:
    """Returns the scope of one request: a server makes a new one each time."""
    return {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS,
    }


async def receive() -> dict[str, Any]:
    """The body, in one piece."""
    return {"type": "http.request", "body": BODY, "more_body": False}


async def send(_: Any) -> None:
    """Takes the answer."""


async def our_path() -> object:
    """Looks up the path."""
    return PATHS.find(PATH.encode())


async def starlette_path() -> object:
    """Looks up the path."""
    about = scope()
    return next(match for route in ROUTES if (match := route.matches(about))[0].value == 2)


async def stream() -> object:
    """Reads the body with Starlette, as we do."""
    return [piece async for piece in Request(scope(), receive).stream()]


async def loop() -> object:
    """Reads the body with a loop of our own."""
    pieces, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return scope(), pieces


async def our_headers() -> object:
    """Reads six headers."""
    found = dict(HEADERS)
    return [found.get(name) for name, _ in HEADERS]


async def starlette_headers() -> object:
    """Reads six headers."""
    found = Request(scope()).headers
    return [found.get(name.decode()) for name, _ in HEADERS]


async def cost(work: Work) -> float:
    """Returns the CPU microseconds of one call."""
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        begin = time.process_time()
        for _ in range(COUNT):
            await work()
        best = min(best, time.process_time() - begin)
    return best / COUNT * 1e6


async def main() -> None:
    """Prints a line a part."""
    works: dict[str, tuple[Work, Work]] = {
        "a publish": (lambda: OURS(scope(), receive, send), lambda: STARLETTE(scope(), receive, send)),
        "path": (our_path, starlette_path),
        "headers": (our_headers, starlette_headers),
        "body": (loop, stream),
    }
    for name, (ours, starlettes) in works.items():
        print(f"{name:10} ours {await cost(ours):6.2f} us   Starlette {await cost(starlettes):6.2f} us")


if __name__ == "__main__":
    asyncio.run(main())
