"""A WebSocket as a transport."""

import asyncio
import os
from collections.abc import Mapping
from typing import Literal, Self
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from headgate_client.credentials import Credential
from headgate_client.errors import Unreachable
from headgate_client.frames import Frame, encode
from headgate_client.reconnection import LOST
from headgate_client.transport import MAX_FRAME, OPEN_S, NotOpened, TransportEnded


class WebSocketTransport:
    """An open WebSocket."""

    two_way = True

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @classmethod
    async def open(
        cls, base: str, headers: Mapping[str, str], used: Credential | None, proxy: Literal[True] | None
    ) -> Self:
        """Connects. `base` is a base URL (http or https). Raises NotOpened, Unreachable for what is no URL."""
        url = f"ws{base.removeprefix('http').rstrip('/')}/ws/subscribe"
        more = dict(headers)
        if used is not None and used.is_ticket:
            url = f"{url}?ticket={quote(used.text, safe='')}"
        elif used is not None:
            more["Authorization"] = f"Bearer {used.text}"
        try:
            socket = await connect(
                url,
                additional_headers=more,
                compression=None,  # the server does not negotiate it
                max_size=MAX_FRAME,
                open_timeout=OPEN_S,
                close_timeout=1.0,
                proxy=proxy,
                ping_interval=None,  # Session does it: it knows when the socket is not read
            )
        except InvalidStatus as error:
            answer = error.response
            after_s = answer.headers.get("Retry-After", "")
            after_ms = int(after_s) * 1_000 if after_s.isdigit() else None
            why = f"HTTP {answer.status_code} in place of a WebSocket"
            raise NotOpened(why, answer.status_code, after_ms) from None
        except InvalidURI as error:
            raise Unreachable(str(error)) from None
        except (OSError, InvalidHandshake, InvalidMessage, TimeoutError, EOFError) as error:
            raise NotOpened(plain(error)) from error
        return cls(socket)

    @property
    def close_code(self) -> int:
        """Of the server's close frame; 1006 when there was none."""
        received = self._socket.protocol.close_rcvd
        return LOST if received is None else received.code

    async def recv(self) -> bytes:
        """Returns the next frame. Raises TransportEnded."""
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            raise TransportEnded from error

    async def send(self, frame: Frame) -> None:
        """Sends a frame. Raises TransportEnded."""
        try:
            await self._socket.send(encode(frame))
        except ConnectionClosed as error:
            raise TransportEnded from error

    async def ping(self) -> "asyncio.Future[float]":
        """Sends a ping. Raises TransportEnded."""
        try:
            return asyncio.ensure_future(await self._socket.ping())
        except ConnectionClosed as error:
            raise TransportEnded from error

    async def pong(self) -> None:
        """Sends a pong. Raises TransportEnded."""
        try:
            await self._socket.pong()
        except ConnectionClosed as error:
            raise TransportEnded from error

    async def close(self) -> None:
        """Sends a close frame and waits for the other end."""
        await self._socket.close()

    async def abort(self) -> None:
        """Resets the connection."""
        self._socket.transport.abort()


def plain(error: BaseException) -> str:
    """Returns why something could not be reached, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio puts the address in place of the reason
    return str(error) or type(error).__name__
