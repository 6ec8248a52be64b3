"""Links over WebSocket with the `websockets` library: both ends, authenticated before anything is parsed."""

import asyncio
import contextlib
import http
import logging
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from headgate.core import linkauth
from headgate.core.link import Message, decode_batch, encode_batch
from headgate.runtime.ports import Clock, Rng
from headgate.runtime.sockets import listen

PATH: Final = "/link"
PROOF_HEADER: Final = "Headgate-Proof"
MAX_BATCH_BYTES: Final = 96 * 1024 * 1024  # a page of history and a turn's messages fit; a foreign flood does not
PING_S: Final = 2.0  # a half-open link is noticed within PING_S + PONG_S
PONG_S: Final = 4.0
OPEN_S: Final = 5.0
_BACKLOG: Final = 128  # the peers of a cluster
SLICE_MESSAGES: Final = 2_000
SLICE_BYTES: Final = 1024 * 1024  # a batch: small beside MAX_BATCH_BYTES, and some milliseconds of either end

_QUIET = logging.getLogger("headgate.link.websockets")
_QUIET.setLevel(logging.CRITICAL)  # refused and cut links are ours to report

Connection = ClientConnection | ServerConnection


class WebSocketLink:
    """One end of a link. `run` is its task: it reads until the connection ends; a second one inside writes."""

    def __init__(self, connection: Connection, peer: str) -> None:
        self.on_messages: Callable[[list[Message]], None] = lambda messages: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.peer = peer
        self._connection = connection
        self._out: list[Message] = []
        self._queued = 0
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._reason: str | None = None

    def send(self, message: Message) -> None:
        """Queues a message for this turn's batch."""
        if self._reason is None:
            self._out.append(message)
            self._queued += _estimate(message)
            self._wake.set()

    @property
    def pending_bytes(self) -> int:
        """Bytes queued here and in the socket's buffer."""
        return self._queued + self._connection.transport.get_write_buffer_size()

    async def drained(self, below: int) -> None:
        """Waits until fewer than `below` bytes are pending, or the link is closed."""
        while self.pending_bytes >= below and self._reason is None:
            self._sent.clear()
            await self._sent.wait()

    def close(self, reason: str) -> None:
        """Ends the link."""
        if self._reason is None:
            self._reason = reason
            self._wake.set()
            self._sent.set()

    async def run(self) -> None:
        """Carries messages until the far end is gone or `close` was called."""
        writer = asyncio.ensure_future(self._write())
        reader = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writer, reader):
                task.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)
            reason = self._reason or self._why(reader)
            self.close(reason)
            with contextlib.suppress(Exception):
                await self._connection.close(1000, reason[:100])
            self.on_close(reason)

    def _why(self, reader: "asyncio.Future[None]") -> str:
        error = None if reader.cancelled() else reader.exception()
        return str(error) if error is not None else "the far end closed the link"

    async def _read(self) -> None:
        async for data in self._connection:
            if not isinstance(data, bytes):
                raise ValueError("a text message on a link")
            try:
                messages = decode_batch(data)
            except msgspec.DecodeError as error:
                raise ValueError(f"not a batch of link version 1: {error}") from None
            self.on_messages(messages)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            queue, self._out = self._out, []
            for part in _parts(queue):
                try:
                    await self._connection.send(encode_batch(part))
                except ConnectionClosed:
                    return
                self._queued -= sum(map(_estimate, part))
                self._sent.set()
            if self._reason is not None:
                return


def _parts(queue: list[Message]) -> Iterator[list[Message]]:
    """Cuts a turn's messages into batches of bounded size; a single large message is a batch of its own."""
    part: list[Message] = []
    size = 0
    for message in queue:
        part.append(message)
        size += _estimate(message)
        if size >= SLICE_BYTES or len(part) >= SLICE_MESSAGES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _estimate(message: Message) -> int:
    frames: list[bytes] = getattr(message, "frames", [])
    return 64 + sum(map(len, frames))


async def open_link(address: str, secret: bytes, node: str, clock: Clock, rng: Rng) -> WebSocketLink:
    """Connects to a dispatcher (host:port). Raises OSError, TimeoutError, or ConnectionError with the reason."""
    nonce = rng.entropy(linkauth.NONCE_BYTES).hex()
    headers = {"Authorization": linkauth.offer(secret, node, clock.wall_ms(), nonce)}
    try:
        connection = await connect(
            f"ws://{address}{PATH}",
            additional_headers=headers,
            compression=None,
            max_size=MAX_BATCH_BYTES,
            open_timeout=OPEN_S,
            close_timeout=1.0,
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            proxy=None,
        )
    except Exception as error:
        raise ConnectionError(f"no link to {address}: {error or type(error).__name__}") from error
    answer = connection.response.headers.get(PROOF_HEADER, "") if connection.response else ""
    if not linkauth.check_proof(secret, nonce, answer):
        await connection.close()
        raise ConnectionError(f"{address} does not know the cluster secret")
    return WebSocketLink(connection, address)


async def serve_links(
    host: str, port: int, secret: bytes, clock: Clock, accept: Callable[[WebSocketLink], None]
) -> Server:
    """Listens for links; `accept` gets each authenticated one before its first message is read."""

    def check(connection: ServerConnection, request: Request) -> Response | None:
        try:
            nonce = linkauth.check_offer(secret, request.headers.get("Authorization", ""), clock.wall_ms())
        except ValueError as error:
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, f"{error}\n")
        connection.nonce = nonce  # type: ignore[attr-defined]  # carried to the response
        return None

    def prove(connection: ServerConnection, _request: Request, response: Response) -> Response | None:
        nonce = getattr(connection, "nonce", None)
        if nonce is not None:
            response.headers[PROOF_HEADER] = linkauth.proof(secret, nonce)
        return None

    async def handle(connection: ServerConnection) -> None:
        wire = WebSocketLink(connection, "unknown")
        accept(wire)
        await wire.run()

    return await serve(
        handle,
        sock=listen(host, port, _BACKLOG),
        process_request=check,
        process_response=prove,
        compression=None,
        max_size=MAX_BATCH_BYTES,
        ping_interval=PING_S,
        ping_timeout=PONG_S,
        close_timeout=1.0,
        logger=_QUIET,
    )
