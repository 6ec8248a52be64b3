"""The pages of the broker: their generated parts are current, and their code runs."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "broker"
CODE = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in sorted(PAGES.glob("*.md"))
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PAGES / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_parts_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert generator().main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_part_is_noticed_and_written_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = generator()
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- generated: breaker -->\nold\n<!-- end -->\nrest\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    assert module.main(["--check"]) == 1
    assert "page.md is stale" in capsys.readouterr().err
    assert module.main([]) == 0
    assert "closed --> open: trip" in page.read_text()
    assert module.main(["--check"]) == 0


@pytest.mark.parametrize("code", CODE)
def test_the_code_of_the_pages_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "page", "exec"), {"__name__": "page"})


def test_the_third_strategy_has_at_most_ten_lines() -> None:
    (found,) = re.findall(r"class UrgentFirst:.*?\n\n\n", (PAGES / "guide.md").read_text(), re.DOTALL)
    assert len([line for line in found.splitlines() if line.strip()]) <= 10
