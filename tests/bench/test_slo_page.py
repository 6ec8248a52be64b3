"""The page of the service levels: misses first, a run replaces its own rows only, and only from a row's scale on."""

import re
from pathlib import Path

import msgspec
import pytest

from bench.slo.page import Entry, keep
from bench.slo.rows import LEVELS, PAGES, Found, is_met, min_scale_of
from bench.slo.runs import PER_GATEWAY, RUNS, for_crowd
from bench.slo.sums import SUMS, sums


def rows(folder: Path) -> list[str]:
    lines = (folder / "slo.md").read_text("utf-8").partition("## Beyond")[0].splitlines()
    return [line for line in lines if line.startswith("| S")]


def entries(folder: Path) -> dict[str, Entry]:
    return msgspec.json.decode((folder / "slo.json").read_bytes(), type=dict[str, Entry])


def test_misses_come_first_and_other_rows_stay(tmp_path: Path) -> None:
    assert keep([Found("history_p95", 12.0, "small")], "history", 1.0, tmp_path) == []
    assert keep([Found("delivery_p95", 60.0, "small")], "latency", 1.0, tmp_path) == []
    found = rows(tmp_path)
    assert len(found) == len(LEVELS)
    assert "| delivery p95 below 50 ms | 60 ms | **no** |" in found[0]
    assert all("not run" in row for row in found[1:-2])
    assert "60 ms | yes" in found[-2]  # the same figure, the other row's limit
    assert "12 ms | yes | small | `python -m bench.slo --only history --scale 1`" in found[-1]


def test_a_small_run_does_not_say_that_a_large_target_is_met(tmp_path: Path) -> None:
    keep([Found("churn_p95", 300.0, "whole")], "crowd", 1.0, tmp_path)
    small = [Found("churn_p95", 3.0, "tiny"), Found("connect_us", 1.0, "tiny")]
    assert keep(small, "crowd", 0.01, tmp_path) == ["churn_p95", "connect_us"]
    assert {name: entry.value for name, entry in entries(tmp_path).items()} == {"churn_p95": 300.0}
    assert "300 ms | **no** | whole" in rows(tmp_path)[0]


def test_each_figure_has_a_scale_of_its_own(tmp_path: Path) -> None:
    found = [Found("sockets_most", 200_000.0, "a fifth"), Found("kernel_bytes", 4_000.0, "a fifth")]
    assert keep(found, "million", 0.09, tmp_path) == ["sockets_most", "kernel_bytes"]
    assert keep(found, "million", 0.1, tmp_path) == []
    assert sorted(entries(tmp_path)) == ["kernel_bytes", "sockets_most"]
    assert all("200,000" in row and "**no**" in row for row in rows(tmp_path)[:2])


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: f"{level.row} {level.figure}")
def test_a_hundredth_of_the_size_is_never_written(level: object) -> None:
    assert min_scale_of(level.figure, level.run) >= 0.1  # type: ignore[attr-defined]  # a ServiceLevel


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


def test_every_service_level_that_the_requirements_ask_for_has_a_row() -> None:
    requirements = (PAGES / "requirements.md").read_text("utf-8")
    wanted = re.findall(r"^\| (S[14]-SLO-\d) \|(?!.*answered by a document)", requirements, re.MULTILINE)
    assert len(wanted) == 17
    assert set(wanted) - {level.row for level in LEVELS} == set()


def test_no_run_takes_more_than_15_minutes() -> None:
    assert {name: run.minutes for name, run in RUNS.items() if run.minutes > 15} == {}


@pytest.mark.parametrize("scale", [0.002, 0.1, 0.15, 0.2, 0.5, 1.0])
def test_the_gateways_of_a_crowd_can_lose_one_and_have_descriptors_for_all(scale: float) -> None:
    gateways = for_crowd(scale).gateways
    assert gateways >= 2
    assert 100_000 * scale / (gateways - 1) <= PER_GATEWAY < 20_000


def test_a_sum_says_what_it_was_made_from_and_what_is_missing() -> None:
    half = {"single_per_gateway_cpu_s": 100_000.0, "single_per_servers_cpu_s": 50_000.0, "deliveries_per_s": 400_000.0}
    half |= {"small_per_servers_cpu_s": 10_000.0}
    place = [each.name for each in SUMS].index("peak")
    assert sums(half)[place][1:] == ("not measured yet: burst_per_servers_cpu_s", "")
    _, text, taken = sums(half | {"burst_per_servers_cpu_s": 500_000.0})[place]
    assert "10.0 gateway cores, 20.0 cores" in text
    assert "half of a core, 40" in text
    assert "`single_per_gateway_cpu_s` 100,000" in taken


def test_a_million_connections_are_computed_from_the_bytes_of_one() -> None:
    values = {"sockets_most": 400_000.0, "gateway_bytes": 2_500.0, "kernel_bytes": 4_500.0, "connects_per_s": 2_000.0}
    text = sums(values)[0][1]
    assert "2.5 GB in 100 gateway processes and 4.5 GB of their kernels, 7.0 GB in all; 8.3 minutes" in text


def test_every_sum_can_be_computed_and_is_on_the_page(tmp_path: Path) -> None:
    named = [name for each in SUMS for name in each.figures]
    assert [line for line in sums(dict.fromkeys(named, 1_000.0)) if "not measured" in line[1]] == []
    keep([], "latency", 1.0, tmp_path)
    beyond = (tmp_path / "slo.md").read_text("utf-8").partition("## Beyond this machine")[2]
    assert [each.rows for each in SUMS if f"| {each.rows} |" not in beyond] == []
