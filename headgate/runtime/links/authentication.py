"""The two ends of a link prove themselves on a fresh WebSocket connection, before any message of the link is read."""

import asyncio
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from headgate.core.wire import linkauth
from headgate.core.wire.linkauth import LinkRefused, Proven
from headgate.runtime.ports import Rng

OPEN_S: Final = 5.0  # from the connection to the proof
MAX_STRANGERS: Final = 256  # connections that have proved nothing yet; above it they are cut at once

Connection = ClientConnection | ServerConnection


async def as_client(connection: Connection, secret: bytes, role: str, node: str, rng: Rng, limit: int) -> Proven:
    """Proves this end to a dispatcher. From then on messages of up to `limit` bytes are taken.

    Raises LinkRefused, TimeoutError or ConnectionClosed.
    """
    async with asyncio.timeout(OPEN_S):
        challenge = await _receive(connection)
        answer, expected = linkauth.answer(secret, challenge, role, node, rng.entropy(linkauth.NONCE_BYTES))
        await connection.send(answer)
        try:
            proof = await _receive(connection)
        except ConnectionClosed as error:  # it says why
            raise LinkRefused(_reason(error) or "the far end closed the connection") from None
    proven = linkauth.check_proof(expected, proof)
    _trust(connection, limit)
    return proven


async def as_dispatcher(connection: Connection, secret: bytes, node: str, rng: Rng, limit: int) -> Proven:
    """Lets a client prove itself, then this end. From then on messages of up to `limit` bytes are taken.

    Raises LinkRefused, TimeoutError or ConnectionClosed.
    """
    challenge = linkauth.challenge(node, rng.entropy(linkauth.NONCE_BYTES))
    async with asyncio.timeout(OPEN_S):
        await connection.send(challenge.encode())
        proof, proven = linkauth.check_answer(secret, challenge, await _receive(connection))
        _trust(connection, limit)
        await connection.send(proof)
    return proven


class Strangers:
    """Counts the connections of a dispatcher that have proved nothing yet, and cuts those beyond the bound."""

    def __init__(self) -> None:
        self.waiting: set[asyncio.BaseTransport] = set()

    def connection(self) -> type[ServerConnection]:
        """Returns the kind of connection to serve with."""
        strangers = self

        class Counted(ServerConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                if len(strangers.waiting) >= MAX_STRANGERS:
                    self.transport.abort()
                else:
                    strangers.waiting.add(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                strangers.waiting.discard(self.transport)
                super().connection_lost(exc)

        return Counted

    def known(self, connection: Connection) -> None:
        """The far end has proved itself."""
        self.waiting.discard(connection.transport)


async def _receive(connection: Connection) -> bytes:
    data = await connection.recv()
    if not isinstance(data, bytes):
        raise LinkRefused("a text message on a link")
    return data


def _trust(connection: Connection, limit: int) -> None:
    connection.protocol.max_message_size = limit


def _reason(error: ConnectionClosed) -> str:
    return error.rcvd.reason if error.rcvd is not None else ""
