"""Headless Chromium over its DevTools protocol, and a server of empty pages for its tabs to stand on."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.chromium import chromium

START_S: Final = 30.0
_LISTENS: Final = re.compile(r"DevTools listening on (ws://\S+)")
_PAGE: Final = b"<!doctype html><title>page</title>"


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answering(answer: Answer, port: int = 0) -> AsyncIterator[int]:
    """Serves a port with `answer`, one call a connection, and yields the port; every connection has ended after it.

    A browser also opens connections on which it never asks for anything: they end with the server.
    """
    connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()
        await asyncio.gather(*(task for task in connections.values() if task is not None), return_exceptions=True)


async def empty_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request, whatever its path, with a page that has nothing on it."""
    await reader.readuntil(b"\r\n\r\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(_PAGE) + _PAGE)
    await writer.drain()


class Browser:
    """One browser with one tab. `names` are host names that it takes for this machine's."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._names = names
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: ClientConnection
        self._session = ""
        self._next = 0

    async def __aenter__(self) -> Self:
        path = await asyncio.to_thread(chromium)
        rules = ",".join(f"MAP {name} 127.0.0.1" for name in self._names)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={self._folder / 'profile'}", "--no-proxy-server"]
        flags += [f"--host-resolver-rules={rules}", "about:blank"]
        errors = self._folder / "chromium.err"
        with errors.open("wb") as err:
            self._process = subprocess.Popen(
                [path, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True
            )
        async with asyncio.timeout(START_S):
            while (found := _LISTENS.search(errors.read_text("utf-8", "replace"))) is None:
                await asyncio.sleep(0.05)
        self._socket = await connect(found[1], max_size=None, proxy=None)
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._socket.close()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def open(self, url: str) -> None:
        """Goes to a page and waits until it is there."""
        await self._call("Page.navigate", url=url)
        async with asyncio.timeout(START_S):
            while (
                await self.run(f"return location.href.startsWith({json.dumps(url)}) && document.readyState")
                != "complete"
            ):
                await asyncio.sleep(0.05)

    async def run(self, body: str) -> Any:
        """Returns what an async function with this body returns on the page; a thrown error as its text."""
        source = f"(async () => {{ try {{ {body} }} catch (error) {{ return 'threw ' + error }} }})()"
        answer = await self._call("Runtime.evaluate", expression=source, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    async def _call(self, method: str, **parameters: Any) -> Any:
        self._next += 1
        message = {"id": self._next, "method": method, "params": parameters}
        await self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        async with asyncio.timeout(START_S):
            while True:
                answer = json.loads(await self._socket.recv())
                if answer.get("id") == self._next:
                    assert "result" in answer, answer
                    return answer["result"]
