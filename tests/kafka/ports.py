"""Free loopback ports that two test processes on one machine never both get.

Must not know who listens on them.
"""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Self

# Below the ephemeral range: a dead broker's port must not be taken by some client's outgoing connection.
PORT_RANGE = range(20_000, 32_000)


class NoFreePort(RuntimeError):
    """The wanted ports are in use."""


class HeldPorts:
    """Ports held by this process until `release()`, also while nothing listens on them (a killed broker comes back)."""

    def __init__(self, locks: dict[int, IO[bytes]]) -> None:
        self._locks = locks

    @property
    def ports(self) -> tuple[int, ...]:
        """In the order in which they were asked for."""
        return tuple(self._locks)

    @classmethod
    def any(cls, count: int) -> Self:
        """Hold `count` free ports of PORT_RANGE; raises NoFreePort."""
        # SystemRandom: a seeded `random` would send every test process to the same ports.
        candidates = random.SystemRandom().sample(PORT_RANGE, len(PORT_RANGE))
        held = cls({})
        for port in candidates:
            if len(held._locks) == count:
                break
            held._try(port)
        return held._complete(count, "every port of the range")

    @classmethod
    def exactly(cls, ports: Iterable[int]) -> Self:
        """Hold these ports; raises NoFreePort."""
        wanted = tuple(ports)
        held = cls({})
        for port in wanted:
            held._try(port)
        return held._complete(len(wanted), f"one of {wanted}")

    def release(self) -> None:
        """Let others have them. May be called twice."""
        while self._locks:
            self._locks.popitem()[1].close()

    def _complete(self, count: int, what: str) -> Self:
        if len(self._locks) != count:
            self.release()
            raise NoFreePort(f"{what} is in use: wanted {count} free ports on 127.0.0.1")
        return self

    def _try(self, port: int) -> None:
        lock = (_lock_folder() / str(port)).open("ab")
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the kernel when this process dies
            _bind(port)
            self._locks[port] = lock
            return
        lock.close()


def _bind(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT is no obstacle
        probe.bind(("127.0.0.1", port))


def _lock_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"headgate-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
