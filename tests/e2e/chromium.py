"""The browser of the tests: the system's Chromium, else npm's from a lock file. Must not know what runs in it."""

import functools
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.stock import HERE, NODE, npm_packages

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_LAMBDA: Final = "AWS_Lambda_nodejs22.x"  # has the package unpack the libraries that a small system lacks
_UNPACK: Final = """
const { default: chromium } = await import(process.argv[1]);
console.log(await chromium.executablePath());
"""


@functools.cache
def chromium() -> str:
    """Returns the path of a Chromium. Where there is none the test is skipped, with CI=true it fails."""
    for name in _NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        return _of_npm()
    because = (
        "there is no Chromium on this machine, and npm's is for Linux on x86-64 (Debian: apt-get install chromium)"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(because)
    pytest.skip(because)


def _of_npm() -> str:
    """Unpacks the package's browser beside it, at the first use."""
    folder = npm_packages(HERE / "chromium")
    module = folder / "node_modules" / "@sparticuz" / "chromium" / "build" / "index.js"
    environment = {**os.environ, "TMPDIR": str(folder), "AWS_EXECUTION_ENV": _LAMBDA}
    command = [str(NODE), "--input-type=module", "-e", _UNPACK, module.as_uri()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return _with_libraries(Path(done.stdout.strip()))


def _with_libraries(browser: Path) -> str:
    """Returns a program that starts the browser with the package's libraries: nothing else is to find them."""
    libraries = os.pathsep.join(str(found.parent) for found in browser.parent.glob("*/lib/libnss3.so"))
    started = browser.with_name("start-chromium")
    started.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(libraries)} exec {shlex.quote(str(browser))} "$@"\n')
    started.chmod(0o755)
    return str(started)
