"""The package `headgate-client` stands alone: what it imports, what it declares, what its wheel holds."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clients" / "python"
SOURCES = sorted((FOLDER / "src" / "headgate_client").glob("*.py"))
MAX_WHEEL_BYTES = 64 * 1024  # seen: 43 KB


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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("exported") / "python"
    shutil.copytree(FOLDER, tree, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", "wheel"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", "out", "."]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = (tree / "out").glob("headgate_client-*.whl")
    return built


def test_the_wheel_holds_every_module_its_types_and_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"headgate_client"}
    assert {f"headgate_client/{path.name}" for path in SOURCES} | {"headgate_client/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_it_runs_from_the_wheel_and_imports_nothing_of_the_server(wheel: Path, tmp_path: Path) -> None:
    code = "import sys, headgate_client; print(headgate_client.__file__, [m for m in sys.modules if m == 'headgate'])"
    environ = os.environ | {"PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"{wheel}/headgate_client/__init__.py", "[]"]
