"""The pages of the broker: their code runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "broker"
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
