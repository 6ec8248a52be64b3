"""The wheel builds from an exported tree (no .git, nothing but the sources) and gives the `headgate` command."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXPORTED = (
    *("headgate", "ingest", "dispatcher", "gateway", "examples/chat"),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"),
)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input")


def run(*command: str, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("exported")
    for name in EXPORTED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    # The build backend comes from the lock file, so nothing is fetched here.
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "out", ".", cwd=tree)
    (built,) = (tree / "out").glob("headgate-*.whl")
    return built


def test_wheel_holds_all_packages_and_no_test(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"headgate", "ingest", "dispatcher", "gateway"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for package in tops:
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert sources <= set(names)
    chat = {path.name for path in (ROOT / "examples" / "chat").iterdir()}
    assert {"index.html", "chat.js", "headgate-client.min.js"} <= chat
    assert chat == {name.rpartition("/")[2] for name in names if name.startswith("headgate/cli/chat/")}


def test_wheel_gives_the_command(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(*PIP, "install", "--no-deps", "--target", str(site), str(wheel), cwd=tmp_path)
    command = str(site / "bin" / "headgate")
    assert "publish" in run(command, "--help", cwd=tmp_path, PYTHONPATH=str(site))
    version = run(command, "--version", cwd=tmp_path, PYTHONPATH=str(site))
    assert version.startswith("headgate 0.") or version.startswith("headgate 1.")
    found = "from headgate.cli.chat_page import chat_folder; print(chat_folder())"
    said = run(sys.executable, "-c", found, cwd=tmp_path, PYTHONPATH=str(site))
    assert said.strip() == str(site / "headgate" / "cli" / "chat")
