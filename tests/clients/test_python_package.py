"""The package `headgate-client` stands alone: what it imports, what it declares, what its archives hold."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import httpx
import pytest
import websockets

from tests.e2e.conftest import Figures
from tests.vectors.served import Served

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clients" / "python"
SOURCES = sorted((FOLDER / "src" / "headgate_client").glob("*.py"))
MAX_BYTES = 64 * 1024  # seen: 54 KB
SCRIPT = """
import asyncio, sys, headgate_client

async def main():
    async with headgate_client.Client("URL", user="empty") as client:
        await client.publish("empty.folder", {"text": "hello"})
        async for message in client.subscribe("empty.folder", from_="earliest"):
            print(headgate_client.__file__)
            print(message.seq, message.payload)
            print([name for name in sys.modules if name == "headgate"])
            return

asyncio.run(main())
"""


def imported(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_it_needs_nothing_but_what_it_declares() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {name.partition(">")[0] for name in project["dependencies"]}
    used = set().union(*map(imported, SOURCES)) - set(sys.stdlib_module_names) - {"headgate_client"}
    assert used == declared == {"httpx", "websockets"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive and the wheel made of it, as `python -m build` makes them, by the hooks of PEP 517."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copytree(FOLDER, folder / "tree", ignore=shutil.ignore_patterns("__pycache__", "dist", ".*"))
    _hook("build_sdist", folder / "tree", folder)
    (archive,) = folder.glob("headgate_client-*.tar.gz")
    shutil.unpack_archive(archive, folder)
    _hook("build_wheel", folder / archive.name.removesuffix(".tar.gz"), folder)
    (wheel,) = folder.glob("headgate_client-*.whl")
    return archive, wheel


def _hook(name: str, tree: Path, out: Path) -> None:
    code = f"import hatchling.build; hatchling.build.{name}({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_archives_hold_every_module_its_types_and_its_licence_and_nothing_else(
    packages: tuple[Path, Path], figures: Figures
) -> None:
    archive, wheel = packages
    modules = {f"headgate_client/{path.name}" for path in SOURCES} | {"headgate_client/py.typed"}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == modules
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(archive) as files:
        sources = {name.partition("/")[2] for name in files.getnames()}
    others = {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"}
    assert sources == {f"src/{name}" for name in modules} | others
    sizes = (archive.stat().st_size, wheel.stat().st_size)
    assert max(sizes) < MAX_BYTES
    figures.say(f"headgate-client for Python: archive {sizes[0]:,} bytes, wheel {sizes[1]:,} bytes")


def test_what_the_package_index_shows_is_there(packages: tuple[Path, Path]) -> None:
    files = zipfile.ZipFile(packages[1])
    (name,) = (name for name in files.namelist() if name.endswith("/METADATA"))
    shown = email.message_from_string(files.read(name).decode())
    assert (shown["Name"], shown["License-Expression"], shown["Requires-Python"]) == (
        "headgate-client", "Apache-2.0", ">=3.11",
    )  # fmt: skip
    assert shown["Description-Content-Type"] == "text/markdown"
    page = shown.get_payload()
    assert page == (FOLDER / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((?!https://)", page) == [], "a relative link leads nowhere there"


def test_it_installs_and_runs_in_an_empty_folder(packages: tuple[Path, Path], served: Served, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--python",
        str(python),
        "install",
    ]
    done = subprocess.run([*command, "--no-deps", str(packages[1])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    needed = os.pathsep.join({str(Path(str(found.__file__)).parents[1]) for found in (httpx, websockets)})
    code = SCRIPT.replace("URL", served.url)
    home = tmp_path / "empty"
    home.mkdir()
    environ = {"PATH": "", "PYTHONPATH": needed}
    done = subprocess.run(
        [python, "-W", "error", "-c", code], cwd=home, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    where, message, server = done.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path / "venv")
    assert (message, server) == ("1 {'text': 'hello'}", "[]"), "it follows, and nothing of the server is imported"
