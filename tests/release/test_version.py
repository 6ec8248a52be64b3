"""One version in every file that has one, and what writes the next one."""

import re
import shutil
from datetime import date
from pathlib import Path

import pytest

from release.version import PLACES, ROOT, WrongVersion, version, write

DAY = date(2026, 12, 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Returns a copy of the files that have a version, and of the changelog."""
    for name in {place.file for place in PLACES} | {"CHANGELOG.md"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_all_files_have_the_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())


@pytest.mark.parametrize("place", PLACES[1:], ids=lambda place: f"{place.file}: {place.pattern}")
def test_a_place_that_was_forgotten_is_named(tree: Path, place: object) -> None:
    found = next(each for each in PLACES if each == place)
    file = tree / found.file
    file.write_text(found.expression().sub(r"\g<1>9.9.9\g<3>", file.read_text("utf-8")), "utf-8")
    with pytest.raises(WrongVersion, match=re.escape(f"{found.file}: ")):
        version(tree)


def test_a_new_version_is_written_everywhere_and_the_changelog_gets_its_section(tree: Path) -> None:
    old = version(tree)
    write("7.3.0", DAY, tree)
    assert version(tree) == "7.3.0"
    changelog = (tree / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]\n\n## [7.3.0] - 2026-12-01\n" in changelog
    assert '"headgate-client>=7.3,<7.4"' in (tree / "pyproject.toml").read_text("utf-8")
    assert f"A file that {old} created" in (tree / "docs/operations.md").read_text("utf-8"), "history stays as it is"


@pytest.mark.parametrize("wrong", ["1.2", "v1.2.3", "1.2.3rc1", "1.2.3\n"])
def test_what_is_no_version_is_refused_and_nothing_is_written(tree: Path, wrong: str) -> None:
    old = version(tree)
    with pytest.raises(WrongVersion, match="is no version"):
        write(wrong, DAY, tree)
    assert version(tree) == old


def test_the_same_version_again_is_refused(tree: Path) -> None:
    with pytest.raises(WrongVersion, match="already"):
        write(version(tree), DAY, tree)


def test_a_changelog_that_has_the_version_is_refused(tree: Path) -> None:
    changelog = tree / "CHANGELOG.md"
    changelog.write_text(changelog.read_text("utf-8") + "\n## [7.3.0] - 2026-01-01\n", "utf-8")
    with pytest.raises(WrongVersion, match="CHANGELOG"):
        write("7.3.0", DAY, tree)
