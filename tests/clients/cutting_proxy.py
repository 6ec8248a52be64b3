"""A TCP proxy that cuts its connections at random, in the middle of a frame or an answer, and may block WebSockets."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator


class CuttingProxy:
    """Forwards bytes to a port; each connection may pass so many bytes or seconds, then it is reset.

    `blocked` is the answer to a request that wants to upgrade; an empty one: the connection is reset.
    """

    def __init__(self, target: int, seed: int, blocked: bytes | None = None) -> None:
        self.refused = 0  # upgrades
        self._serving: set[asyncio.Task[None]] = set()
        self._blocked = blocked
        self.cuts = 0
        self.cutting = True
        self.url = ""
        self._target = target
        self._random = random.Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def end(self) -> None:
        """Resets what is open."""
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"" if self._blocked is None else await _head(reader)
        if self._blocked is not None and b"\r\nupgrade: websocket" in head.lower():
            self.refused += 1
            writer.write(self._blocked)
            with contextlib.suppress(OSError):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return
        back.write(head)
        left = [int(self._random.expovariate(1 / 20_000))]
        both = [self._copy(reader, back, left), self._copy(there, writer, left)]
        try:
            async with asyncio.timeout(self._random.expovariate(1 / 2.0) if self.cutting else None):
                await asyncio.gather(*both)
        except TimeoutError:
            self.cuts += 1
        finally:
            back.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(4_096):
                left[0] -= len(data)
                if self.cutting and left[0] < 0:
                    sink.write(data[: self._random.randrange(len(data))])
                    raise TimeoutError
                sink.write(data)
                await sink.drain()
        raise TimeoutError


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Returns the first request's head, or what came of it."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, OSError):
        return b""


@contextlib.asynccontextmanager
async def cutting(target: int, seed: int, blocked: bytes | None = None) -> AsyncIterator[CuttingProxy]:
    """Runs a proxy in front of a port of this machine."""
    proxy = CuttingProxy(target, seed, blocked)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
