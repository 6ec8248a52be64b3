"""A process of bench/raw_sockets.py, as a run sees it."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.e2e.harness import SECRET

SCRIPT: Final = Path(__file__).parents[1] / "raw_sockets.py"
LIFE_S: Final = 7_200  # of its tokens
LINE_BYTES: Final = 1 << 22


class RawClient:
    """Very many sockets of one topic from loopback addresses of their own. `open` is how many follow."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.open = 0
        self._process = process

    @classmethod
    async def start(cls, number: int, topic: str) -> "RawClient":
        """Starts the process."""
        network = f"127.1.{number}"
        command = [sys.executable, "-I", "-S", str(SCRIPT), network, topic, SECRET, str(int(time.time()) + LIFE_S)]
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE_BYTES))

    async def ask(self, name: str, *arguments: object) -> dict[str, Any]:
        """Lets it do something. Raises SystemExit for a fault of any of its sockets."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of clients has died; its error is on standard error")
        found: dict[str, Any] = json.loads(line)
        self.open = found["open"]
        if found["faults"]:
            raise SystemExit(f"{name}: {found['faults']}")
        return found

    async def stop(self) -> None:
        """Ends the process."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
