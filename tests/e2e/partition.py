"""A way to a port of this machine that can be cut as a network cuts it: bytes stop, and nobody is told."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

CHUNK: Final = 65_536

Caller = Callable[[int, int], str | None]  # of a connection, by its port there and ours


class Partition:
    """Forwards connections to `target`. While `cut` nothing passes in either direction; then all goes on, in order.

    Connections are accepted meanwhile, as the kernel of a host does whose packets come late. `caller` names who is at
    the other end of a connection by its ports: then one caller can be cut off and the others not.
    """

    def __init__(self, port: int, target: int, caller: Caller | None = None) -> None:
        self.port = port
        self._target = target
        self._caller = caller
        self._all = _gate()
        self._gates: dict[str, asyncio.Event] = {}  # of each caller that was ever cut off
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_port=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, *callers: str) -> None:
        """Lets nothing pass; with `callers` nothing of theirs."""
        for gate in self._of(callers):
            gate.clear()

    def heal(self, *callers: str) -> None:
        """Lets all pass again, what has waited first; with `callers` what is theirs."""
        for gate in self._of(callers):
            gate.set()

    def _of(self, callers: Sequence[str]) -> list[asyncio.Event]:
        return [self._gates.setdefault(name, _gate()) for name in callers] or [self._all]

    async def _passes(self, caller: str | None) -> None:
        """Waits until nothing is cut for this caller."""
        gates = [self._all] if caller is None else [self._all, self._gates.setdefault(caller, _gate())]
        while not all(gate.is_set() for gate in gates):
            for gate in gates:
                await gate.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine: Python 3.11 writes a traceback for each that is cancelled in the end."""
        peer = writer.get_extra_info("peername")  # None when it has gone already
        caller = self._caller(peer[1], self.port) if self._caller is not None and peer is not None else None
        task = asyncio.create_task(self._serve(reader, writer, caller))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: str | None) -> None:
        try:
            await self._passes(caller)
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._forward(reader, back, caller))
                    ways.create_task(self._forward(there, writer, caller))
            finally:
                back.transport.abort()
        except* OSError:
            pass
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: str | None) -> None:
        while data := await reader.read(CHUNK):
            await self._passes(caller)
            writer.write(data)
            await writer.drain()
        await self._passes(caller)
        with contextlib.suppress(OSError):
            writer.write_eof()


def _gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
