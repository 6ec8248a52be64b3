"""The page of the service levels: misses first, and a run replaces its own rows only."""

from pathlib import Path

from bench.slo.page import keep
from bench.slo.rows import LEVELS, PAGES, Found, is_met
from bench.slo.runs import RUNS


def rows(folder: Path) -> list[str]:
    lines = (folder / "slo.md").read_text("utf-8").splitlines()
    return [line for line in lines if line.startswith("| S")]


def test_misses_come_first_and_other_rows_stay(tmp_path: Path) -> None:
    keep([Found("history_p95", 12.0, "small")], "first", tmp_path)
    keep([Found("delivery_p95", 60.0, "small")], "second", tmp_path)
    found = rows(tmp_path)
    assert len(found) == len(LEVELS)
    assert "| delivery p95 below 50 ms | 60 ms | **no** |" in found[0]
    assert all("not run" in row for row in found[1:-2])
    assert "60 ms | yes" in found[-2]  # the same figure, the other row's limit
    assert "12 ms | yes | small | `first`" in found[-1]


def test_a_figure_is_compared_on_the_right_side() -> None:
    levels = {level.figure: level for level in LEVELS}
    assert is_met(levels["create_p95"], 99.0)
    assert not is_met(levels["create_p95"], 100.0)
    assert is_met(levels["writes_per_s"], 6_000)
    assert not is_met(levels["writes_per_s"], 5_999)


def test_every_level_has_a_run_and_is_a_requirement() -> None:
    assert {level.run for level in LEVELS} == set(RUNS)
    requirements = (PAGES / "requirements.md").read_text("utf-8")
    assert [level.row for level in LEVELS if f"| {level.row} |" not in requirements] == []
