"""One broker process: spawn, wait until ready, and the faults a test inflicts on it.

Must not know how its settings were made or that it has peers.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

READY = b"Kafka Server started"
READY_TIMEOUT_S = 90.0  # seen: 3 s alone, 12 s after kill -9 with a busy machine's slow sessions
POLL_S = 0.05
TAIL_BYTES = 4_000

# Runs before Java in the same process. The kernel kills the child with its parent, however the parent dies; a parent
# that died before prctl shows as another parent id. A `preexec_fn` would do the same, but is unsafe beside threads.
_DIE_WITH_PARENT = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted this broker is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

# "Parent" means the thread that forked: one that lives as long as the process, whichever thread the test is in.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="kafka-spawner")


class KafkaStartError(RuntimeError):
    """A broker did not come up; the text ends with the tail of its output."""


class KafkaNode:
    """A broker that can be killed, frozen and started again on the same port and data.

    Every method blocks; `restart` and `wait_ready` do so for seconds: call them through `asyncio.to_thread`.
    """

    def __init__(self, node_id: int, port: int, home: Path, command: Sequence[str]) -> None:
        self.node_id = node_id
        self.port = port
        self.log = home / "output.log"
        self._home = home
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Of the running process, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process and return at once; raises RuntimeError when it runs already."""
        if self.pid is not None:
            raise RuntimeError(f"node {self.node_id} runs already, pid {self.pid}")
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._process = _spawner.submit(spawn, self._command, self._home, self.log).result()

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when this run of the broker serves clients; raises KafkaStartError."""
        deadline = time.monotonic() + timeout_s
        while READY not in self._output():
            if self.pid is None:
                code = self._process.returncode if self._process is not None else "never started"
                raise KafkaStartError(self._failure(f"ended with {code}"))
            if time.monotonic() > deadline:
                raise KafkaStartError(self._failure(f"not ready after {timeout_s:.0f} s"))
            time.sleep(POLL_S)

    def kill9(self) -> None:
        """SIGKILL, also when frozen; returns when the process is gone. Nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def sigstop(self) -> None:
        """Freeze: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def sigcont(self) -> None:
        """Thaw."""
        self._signal(signal.SIGCONT)

    def restart(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """kill9 when it runs, then start and wait until ready."""
        self.kill9()
        self.start()
        self.wait_ready(timeout_s)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            raise RuntimeError(f"node {self.node_id} does not run: {number.name} has no receiver")
        os.kill(pid, number)

    def _output(self) -> bytes:
        with self.log.open("rb") as output:
            output.seek(self._log_start)
            return output.read()

    def _failure(self, what: str) -> str:
        return f"Kafka node {self.node_id} (port {self.port}) {what}; its output ends with\n{tail(self.log)}"


def spawn(command: Sequence[str], home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that dies with this thread, its output appended to `log`.

    A session of its own: Ctrl-C at the terminal reaches the test alone, which then stops its brokers.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,
            start_new_session=True,
        )


def tail(log: Path) -> str:
    """The last TAIL_BYTES of a log, for an error message."""
    return log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").strip() if log.exists() else "(no output)"
