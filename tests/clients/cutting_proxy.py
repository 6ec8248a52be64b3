"""A TCP proxy that cuts its connections at random, in the middle of a frame or an answer."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator


class CuttingProxy:
    """Forwards bytes to a port; each connection may pass so many bytes or seconds, then it is reset."""

    def __init__(self, target: int, seed: int) -> None:
        self.cuts = 0
        self.cutting = True
        self.url = ""
        self._target = target
        self._random = random.Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        left = [int(self._random.expovariate(1 / 20_000))]
        both = [self._copy(reader, back, left), self._copy(there, writer, left)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._random.expovariate(1 / 2.0) if self.cutting else None):
                await asyncio.gather(*both)
        self.cuts += 1
        writer.transport.abort()
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


@contextlib.asynccontextmanager
async def cutting(target: int, seed: int) -> AsyncIterator[CuttingProxy]:
    """Runs a proxy in front of a port of this machine."""
    proxy = CuttingProxy(target, seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
