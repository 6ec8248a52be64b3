"""A `headgate dev` process on a memory log, as the vectors and the end-to-end tests start one; imports none of ours."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

import httpx

ROOT: Final = Path(__file__).resolve().parents[2]
START_S: Final = 40.0  # two cores that others use as well


def free_port() -> int:
    """Returns a port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Served:
    """One process; `flags` are further command-line arguments."""

    def __init__(self, *flags: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.admin_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self._said = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with the process
        command = [sys.executable, "-m", "headgate.cli.main", "dev", "--port", str(self.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        self.process = subprocess.Popen(
            [*command, "--admin.port", str(self.admin_port), *flags],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )

    def __enter__(self) -> Self:
        self.wait_ready()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._said.close()

    def wait_ready(self) -> None:
        """Waits until the process says that it is ready. Raises RuntimeError with what it said when it is not."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.admin_url}/readyz", timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        said = self.said()
        self.__exit__()
        raise RuntimeError(f"headgate dev was not ready: {said}")

    def said(self) -> str:
        """Returns what the process has written to standard error."""
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace")

    def terminate(self) -> None:
        """Sends SIGTERM and does not wait."""
        self.process.send_signal(signal.SIGTERM)
