"""docs/project/requirements.md: every row is there once, its status is one of five.

What it, docs/guarantees.md and docs/system-design.md name exists.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "project" / "requirements.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"
NAMING = (PAGE, GUARANTEES, ROOT / "docs" / "system-design.md")
PROMISES = ("P1", "P2", "P3", "P4", "P5", "S1", "S6", "D1", "E1", "Z1", "B2", "R1", "I1")
ROWS = {"S0": 14, "S1": 90, "S2": 93, "S3": 32, "S4": 144}
TWICE = 1  # the list of requirements has one id for two of them
STATUSES = {"met", "answered by a document", "partly", "not yet", "excluded"}
_ROW = re.compile(r"^\| (S\d-[A-Z]+-\d+) \| (M|S|O|X|Doc) \| (.+) \| ([a-z ]+) \| (.+) \|$", re.MULTILINE)
_BARE = re.compile(r"`([\w-]+\.(?:py|json|toml|ya?ml|md))(?:::\w+)?`")  # a name without a folder
_NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.*-]+)(?:::(\w+))?`")


def _rows() -> list[tuple[str, str, str, str, str]]:
    return _ROW.findall(PAGE.read_text("utf-8"))


def test_every_requirement_has_its_row() -> None:
    ids = [row[0] for row in _rows()]
    assert len(ids) - len(set(ids)) == TWICE
    assert Counter(name[:2] for name in ids) == ROWS


def test_every_status_is_one_of_five() -> None:
    assert {row[3] for row in _rows()} <= STATUSES


def test_the_table_of_counts_is_the_rows() -> None:
    table = re.search(r"^\| all \| 373 \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text("utf-8"), re.M)
    assert table is not None
    order = ("met", "answered by a document", "partly", "not yet", "excluded")
    counts = Counter(row[3] for row in _rows())
    assert [int(number) for number in table.groups()] == [counts[status] for status in order]


@pytest.mark.parametrize("page", NAMING, ids=lambda page: page.stem)
def test_every_file_and_test_named_exists(page: Path) -> None:
    missing = []
    for name, test in _NAMED.findall(page.read_text("utf-8")):
        path = ROOT / name
        if not path.exists() or (test and f"def {test}(" not in path.read_text("utf-8")):
            missing.append(f"{name}::{test}" if test else name)
    assert missing == []


@pytest.mark.parametrize("page", NAMING, ids=lambda page: page.stem)
def test_every_name_has_its_folder(page: Path) -> None:
    """The test above cannot look for a name without one."""
    assert [name for name in _BARE.findall(page.read_text("utf-8")) if not (ROOT / name).exists()] == []


def test_every_promise_has_a_row_that_names_a_test() -> None:
    rows = [line for line in GUARANTEES.read_text("utf-8").splitlines() if line.startswith("| ")]
    for promise in PROMISES:
        named = [row for row in rows if re.match(rf"\| {promise}[ ,:]", row)]
        assert len(named) == 1, promise
        assert any(test for _, test in _NAMED.findall(named[0])), promise
