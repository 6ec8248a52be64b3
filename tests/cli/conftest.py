"""The real command in a process of its own, and a twin of the server."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headgate.cli.main import main
from tests.cli.twin import Twin

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python" / "src")))


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Done]


def _as_in_a_terminal() -> None:
    """Ctrl-C ends a command; a shell that started the tests in its background has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Headgate:
    """Runs `headgate` as a user does, with nothing of ours in its environment but what is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        self.environ = kept | {"PYTHONPATH": SOURCES}

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-W", "error", "-m", "headgate.cli.main", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ | environ,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            preexec_fn=_as_in_a_terminal,  # noqa: PLW1509 - one call, no lock
        )

    def __call__(self, *arguments: str, stdin: bytes = b"", **environ: str) -> Done:
        with self.start(*arguments, **environ) as process:
            try:
                out, err = process.communicate(stdin, timeout=60)
            except BaseException:  # or it would be waited for, without an end
                process.kill()
                raise
            return Done(process.returncode, out.decode(), err.decode())

    def on_terminal(self, *arguments: str) -> Done:
        """Runs it for a person: standard output is a terminal without colours."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-W", "error", "-m", "headgate.cli.main", *arguments]
        environ = self.environ | {"TERM": "dumb", "COLUMNS": "200"}
        with subprocess.Popen(
            command, cwd=self.folder, env=environ, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE
        ) as process:
            os.close(theirs)
            shown = b"".join(iter(lambda: _of_terminal(ours), b""))
            os.close(ours)
            _, err = process.communicate(timeout=60)
            return Done(process.returncode, shown.decode().replace("\r\n", "\n"), err.decode())


def _of_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # EIO: the last writer is gone
        return b""


@pytest.fixture
def headgate(tmp_path: Path) -> Headgate:
    return Headgate(tmp_path)


@pytest.fixture
def at_once(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs a command line in this process: for the many that end before anything begins."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HEADGATE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Done:
        status = main(list(arguments))
        return Done(status, *capfd.readouterr())

    return run


@pytest.fixture
def twin() -> Iterator[Twin]:
    running = Twin()
    yield running
    running.close()
