"""Links over WebSocket with the `websockets` library, both ends. Each batch is authenticated before it is parsed."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.frames import CloseCode

from headgate.core.wire import linkcodec
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.link import Message
from headgate.core.wire.linkauth import MAX_BYTES, LinkRefused, Proven
from headgate.runtime.links.authentication import Connection, Strangers, as_client, as_dispatcher
from headgate.runtime.links.tls import AFTER_HANDSHAKE, NO_PLAIN, LinkTls, tls_fault
from headgate.runtime.ports import OnClose, OnMessages, Rng, ignore
from headgate.runtime.sockets import listen

logger = structlog.get_logger("links")

PATH: Final = "/link"
MAX_BATCH_BYTES: Final = linkcodec.MAX_BYTES + 4_096  # one message of the largest size, the batch's head and its mark
PING_S: Final = 2.0  # a half-open link is noticed within PING_S + PONG_S
PONG_S: Final = 4.0
OPEN_S: Final = 5.0
_BACKLOG: Final = 128  # the peers of a cluster
SLICE_MESSAGES: Final = 2_000
SLICE_BYTES: Final = 1024 * 1024  # a batch: small beside MAX_BATCH_BYTES, and some milliseconds of either end

_QUIET = logging.getLogger("headgate.link.websockets")
_QUIET.setLevel(logging.CRITICAL)  # we report refused and cut links ourselves


class WebSocketLink:
    """One end of a link. `run` is its task: it reads until the connection ends; a second one inside writes."""

    def __init__(self, connection: Connection, peer: str, proven: Proven) -> None:
        self._on_messages: OnMessages = ignore
        self._on_close: OnClose = ignore
        self.peer = peer
        self.role = proven.role
        self.far_has_left = False
        self._sent_seal, self._received_seal = proven.sent, proven.received
        self._connection = connection
        self._out: list[bytes] = []
        self._queued = 0
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._reason: str | None = None

    def deliver_to(self, on_messages: OnMessages = ignore, on_close: OnClose = ignore) -> None:
        """Names the functions that this end calls; see the port."""
        self._on_messages, self._on_close = on_messages, on_close

    def send(self, message: Message) -> None:
        """Queues a message for this turn's batch; one that cannot be sent is dropped alone and answered."""
        if self._reason is not None:
            return
        try:
            self._queue(linkcodec.encode(message))
        except linkcodec.Unsendable as fault:
            logger.error("a message was dropped", peer=self.peer, why=str(fault))
            self._answer(fault)

    def _answer(self, fault: linkcodec.Unsendable) -> None:
        """Refuses a request here, in the next turn; replaces an answer by a refusal."""
        refused = fault.answer
        if refused is not None and fault.of_request:
            asyncio.get_running_loop().call_soon(lambda: self._on_messages([refused]))
        elif refused is not None:
            self._queue(linkcodec.encode(refused))

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._queued += len(data)
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
        code = CloseCode.GOING_AWAY  # cancelled: the process stops
        try:
            await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
            code = CloseCode.NORMAL_CLOSURE
        finally:
            for task in (writer, reader):
                task.cancel()
            ends = await asyncio.gather(reader, writer, return_exceptions=True)
            reason = self._reason or _fault(ends) or self._far_end()
            self.far_has_left = self._connection.close_code == CloseCode.GOING_AWAY
            self.close(reason)
            with contextlib.suppress(Exception):
                await self._connection.close(code, _short(reason))
            self._on_close(reason)

    def _far_end(self) -> str:
        reason = self._connection.close_reason
        return f"the far end closed the link: {reason}" if reason else "the far end closed the link"

    async def _read(self) -> None:
        async for data in self._connection:
            if not isinstance(data, bytes):
                raise LinkRefused("a text message on a link")
            batch = self._received_seal.check(data)
            try:
                messages = linkcodec.decode_batch(batch)
            except msgspec.DecodeError as error:
                raise LinkRefused(f"not a batch of link version 1: {error}") from None
            self._on_messages(messages)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            queue, self._out = self._out, []
            for part, size in _parts(queue):
                try:
                    await self._connection.send(self._sent_seal.mark(linkcodec.batch_of(part)))
                except ConnectionClosed:
                    return
                self._queued -= size
                self._sent.set()
            if self._reason is not None:
                return


def _fault(ends: tuple[BaseException | None, ...]) -> str | None:
    """Returns why the reader or writer of this end stopped; an unexpected error is logged with its traceback."""
    for error in ends:
        if isinstance(error, HeadgateError):
            return str(error)
        if isinstance(error, Exception) and not isinstance(error, ConnectionClosed):
            logger.error("a link failed", exc_info=error)
            return f"{type(error).__name__}: {error}"
    return None


def _short(reason: str) -> str:
    """Returns the part that fits into a close frame: 123 bytes of UTF-8 (RFC 6455 section 5.5)."""
    return reason.encode("utf-8", "replace")[:120].decode("utf-8", "ignore")


def _parts(queue: list[bytes]) -> Iterator[tuple[list[bytes], int]]:
    """Cuts the messages of a turn into batches of bounded size; a large message is a batch of its own."""
    part: list[bytes] = []
    size = 0
    for message in queue:
        if part and (size + len(message) > SLICE_BYTES or len(part) >= SLICE_MESSAGES):
            yield part, size
            part, size = [], 0
        part.append(message)
        size += len(message)
    if part:
        yield part, size


class Credentials(NamedTuple):
    """How a process proves itself on its links: the cluster's secret always; `tls` None: links are plain text."""

    secret: bytes
    tls: LinkTls | None = None


async def open_link(
    address: str, credentials: Credentials, role: str, node: str, rng: Rng, host: str | None = None
) -> WebSocketLink:
    """Connects to a dispatcher (host:port). Raises ConnectionError with the reason.

    `host` is the name that its certificate must carry, where that is not the host of `address`.
    """
    secret, tls = credentials
    try:
        connection = await connect(
            f"{'ws' if tls is None else 'wss'}://{address}{PATH}",
            compression=None,
            max_size=MAX_BYTES,
            open_timeout=OPEN_S,
            close_timeout=1.0,
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            proxy=None,
            **({} if tls is None else _secured(tls, host or address.rpartition(":")[0])),
        )
    except Exception as error:  # any server may answer there
        raise ConnectionError(f"no link to {address}: {_why_not(error, tls)}") from error
    try:
        proven = await as_client(connection, secret, role, node, rng, MAX_BATCH_BYTES)
    except (LinkRefused, TimeoutError, ConnectionClosed) as error:
        await connection.close()
        raise ConnectionError(f"no link to {address}: {_why_not(error, tls)}") from error
    return WebSocketLink(connection, address, proven)


def _secured(tls: LinkTls, host: str) -> dict[str, Any]:
    return {"ssl": tls.client(), "server_hostname": tls.name_of(host)}


def _why_not(error: Exception, tls: LinkTls | None) -> str:
    if isinstance(error, InvalidMessage):
        why: str | None = NO_PLAIN if tls is None else AFTER_HANDSHAKE
    else:
        why = tls_fault(error) if tls is not None else None
    return why or str(error) or type(error).__name__


async def serve_links(
    host: str,
    port: int,
    credentials: Credentials,
    node: str,
    rng: Rng,
    accept: Callable[[WebSocketLink], None],
    refused: Callable[[str, str], None],
) -> Server:
    """Listens for links; `accept` gets each authenticated one before its first message is read.

    `refused` gets a code and a sentence for each that did not prove itself.
    """
    strangers = Strangers()
    secret, tls = credentials
    secured: dict[str, Any] = {}
    if tls is not None:
        context = tls.server(lambda why: refused("unauthenticated", f"a link from a stranger: {why}"))
        secured = {"ssl": context, "ssl_handshake_timeout": OPEN_S}

    async def handle(connection: ServerConnection) -> None:
        try:
            proven = await as_dispatcher(connection, secret, node, rng, MAX_BATCH_BYTES)
        except (LinkRefused, TimeoutError, ConnectionClosed) as error:
            reason = str(error) or "nothing was proved in time"
            refused("unauthenticated", f"a link from {connection.remote_address}: {reason}")
            await connection.close(1008, _short(reason))
            return
        strangers.known(connection)
        wire = WebSocketLink(connection, proven.node, proven)
        accept(wire)
        await wire.run()

    return await serve(
        handle,
        sock=listen(host, port, _BACKLOG),
        compression=None,
        max_size=MAX_BYTES,
        open_timeout=OPEN_S,
        ping_interval=PING_S,
        ping_timeout=PONG_S,
        close_timeout=1.0,
        logger=_QUIET,
        create_connection=strangers.connection(),
        **secured,
    )
