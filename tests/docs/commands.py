"""The commands of the pages, read word for word, and what runs them against a process of the test."""

import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from tests.vectors.served import ROOT, Served

RUN_S: Final = 60.0
SOURCES: Final = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python" / "src")))
ADDRESS: Final = "127.0.0.1:8080"  # where the pages say that `make run` serves


def blocks(page: str, language: str = "sh") -> list[str]:
    """Returns the code blocks of a page of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


class Shell:
    """Runs blocks as a reader would, at the root of the repository; only the port and the program's place are ours."""

    def __init__(self, served: Served) -> None:
        self._address = served.url.removeprefix("http://")
        self._environment = os.environ | {"HEADGATE_CLIENT__URL": served.url, "PYTHONPATH": SOURCES}

    def run(self, block: str) -> str:
        """Returns what a block prints. Raises CalledProcessError when a command of it fails."""
        return subprocess.run(
            self._bash(block),
            env=self._environment,
            cwd=ROOT,
            check=True,
            timeout=RUN_S,
            capture_output=True,
            text=True,
        ).stdout

    def start(self, block: str) -> "subprocess.Popen[str]":
        """Starts a block that does not end by itself; the caller reads its lines and kills it."""
        return subprocess.Popen(
            self._bash(f"exec {block}"), env=self._environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )

    def here(self, text: str) -> str:
        """Returns a text of a page with the address of the process."""
        return text.replace(ADDRESS, self._address)

    def _bash(self, block: str) -> list[str]:
        program = f"{shlex.quote(sys.executable)} -m headgate.cli.main"
        return ["bash", "-eu", "-o", "pipefail", "-c", self.here(block).replace(".venv/bin/headgate", program)]


def until(process: "subprocess.Popen[str]", wanted: str) -> str:
    """Returns the first line of a started block that holds `wanted`; ends the block when none comes in RUN_S."""
    assert process.stdout is not None
    seen = []
    end = threading.Timer(RUN_S, process.kill)
    end.start()
    try:
        for line in process.stdout:
            seen.append(line)
            if wanted in line:
                return line
    finally:
        end.cancel()
    raise AssertionError(f"no line with {wanted!r} in {seen}")


def script(path: Path, before: str, code: str) -> Path:
    """Writes a JavaScript file of a page's code after what stands in for the browser; returns its path."""
    path.write_text(f"{before}\n{code}")
    return path
