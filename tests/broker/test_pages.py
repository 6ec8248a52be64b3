"""The pages of the broker: their code runs, and S2 is answered row by row."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "broker"
REQUIREMENTS = (PAGES / "requirements-s2.md").read_text()
CODE = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in sorted(PAGES.glob("*.md"))
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


@pytest.mark.parametrize("code", CODE)
def test_the_code_of_the_pages_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "page", "exec"), {"__name__": "page"})


def test_the_third_strategy_has_at_most_ten_lines() -> None:
    (found,) = re.findall(r"class UrgentFirst:.*?\n\n\n", (PAGES / "guide.md").read_text(), re.DOTALL)
    assert len([line for line in found.splitlines() if line.strip()]) <= 10


def test_every_row_of_s2_has_its_place() -> None:
    rows = re.findall(r"^\| (S2-[A-Z]+-\d+) \| (.+) \|$", REQUIREMENTS, re.MULTILINE)
    counts = {"FR": 11, "SEM": 2, "NFR": 5, "ENT": 8, "PAT": 1, "ST": 7, "INV": 4, "STR": 5, "RTY": 3, "BP": 2}
    counts |= {"MET": 8, "EVT": 11, "DEMO": 5, "CHK": 1, "EXT": 8, "QA": 5, "DOC": 2, "EDGE": 4}
    assert [row for row, _ in rows] == [f"S2-{kind}-{n}" for kind, most in counts.items() for n in range(1, most + 1)]
    assert len(rows) == 92


def test_every_file_and_test_it_names_is_there() -> None:
    named = set(re.findall(r"`((?:headgate|tests|docs|examples|bench)/[\w/.-]+)(?:::(\w+))?`", REQUIREMENTS))
    assert len(named) > 40
    missing = [f"{path}::{test}" for path, test in named if not (ROOT / path).exists()]
    missing += [
        f"{path}::{test}" for path, test in named if test and f"def {test}(" not in (ROOT / path).read_text("utf-8")
    ]
    assert missing == []
