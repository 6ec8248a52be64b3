"""The game day's own parts, and one of its faults for real: alerts fire on a running Prometheus and are resolved."""

from pathlib import Path
from typing import Any

import pytest

from helm.observability.alerts import ALERTS, rules
from tests.deploy import tools
from tests.deploy.conftest import needed
from tests.e2e.harness import until
from tests.gameday.__main__ import options_of
from tests.gameday.day import Played, play
from tests.gameday.faults import DISPATCHERS_KILLED, FAULTS
from tests.gameday.fleet import Fleet
from tests.gameday.shorter import LIMITS, seconds, shorter, shorter_rules
from tests.gameday.table import page
from tests.gameday.timeline import Course, Timeline

FACTOR = 1 / 60


def alert(name: str, state: str) -> dict[str, Any]:
    return {"labels": {"alertname": name, "severity": "warn"}, "state": state}


async def test_alerts_fire_on_a_running_prometheus_when_the_dispatchers_are_killed_and_are_resolved_after_it(
    tmp_path: Path, kafka_bootstrap: str, log_prefix: str
) -> None:
    """Rules of the chart with times of a sixtieth: quiet before the fault, firing in it, and ended after it.

    Other alerts come and go on a busy machine: a second of it is a minute here.
    """
    expected = set(DISPATCHERS_KILLED.alerts)
    fleet = Fleet(tmp_path, kafka_bootstrap, log_prefix, FACTOR, dispatchers=1, gateways=1)
    async with fleet.running(needed(tools.prometheus)):
        await until("they are quiet", lambda: not expected & fleet.timeline.active, 60)
        played = await play(fleet, DISPATCHERS_KILLED, others=False)
        assert played.wrong == []
        courses = {course.alert: course for course in played.courses}
        assert set(courses) >= expected
        assert courses["HeadgateDispatchersDown"].severity == "page"
        assert all(courses[name].resolved_s is not None for name in expected)
        assert "none lost, none twice, in order" in await fleet.traffic.check()
        assert not fleet.stage.tracebacks()


def test_every_time_of_the_rules_is_shortened_and_no_threshold_is() -> None:
    rule = shorter_rules(rules(), 0.1)["groups"][0]["rules"]
    assert [each["alert"] for each in rule] == [each.name for each in ALERTS]
    for short, real in zip(rule, ALERTS, strict=True):
        assert short["expr"].rsplit(" ", 1)[1] == real.expr.rsplit(" ", 1)[1], "the limit"
        hold = float(short["for"].removesuffix("ms").removesuffix("s"))
        assert hold == (0 if real.hold == "0s" else min(max(seconds(real.hold) * 100, 1_000), 60_000))
    assert shorter("sum(rate(a[5m])) < 0.5 * sum(b offset 10m) > 20", 0.1) == (
        "sum(rate(a[30000ms])) < 0.5 * sum(b offset 60000ms) > 20"
    )
    assert shorter("predict_linear(a[3d:1h], 604800) / b > 0.8", 0.1) == (
        "predict_linear(a[72000ms:1000ms], 168) / b > 0.8"
    )
    lowered = shorter_rules(rules(), 0.1, LIMITS)["groups"][0]["rules"]
    limits = {each["alert"]: float(each["expr"].rsplit(" ", 1)[1]) for each in lowered}
    assert {name: limits[name] for name in LIMITS} == LIMITS
    assert all(limits[real.name] == float(real.expr.rsplit(" ", 1)[1]) for real in ALERTS if real.name not in LIMITS)
    assert shorter("max_over_time(sum(a)[1h:1m] offset 10m)", 0.001) == (
        "max_over_time(sum(a)[6000ms:1000ms] offset 1000ms)"
    )


@pytest.mark.parametrize("factor", [0.1, FACTOR])
def test_promtool_reads_the_shortened_rules(tmp_path: Path, factor: float) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(str(shorter_rules(rules(), factor)), "utf-8")  # YAML takes what Python writes of such a value
    status, text = tools.run(needed(lambda: tools.prometheus("promtool")), "check", "rules", path)
    assert status == 0 and f"{len(ALERTS)} rules found" in text, text


def test_every_alert_that_a_fault_has_to_raise_is_one_of_the_chart() -> None:
    assert {name for fault in FAULTS for name in fault.alerts} <= {each.name for each in ALERTS}
    assert len({name for fault in FAULTS for name in fault.alerts}) >= 5


def test_a_part_of_the_faults_does_not_replace_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        options_of(["--write", "--only", "slow"])
    assert refused.value.code == 2 and "leave one of them out" in capsys.readouterr().err
    assert options_of(["--write"]).write and options_of(["--only", "slow"]).only == "slow"


def test_a_course_is_from_the_fault_to_pending_and_firing_and_from_the_mend_to_its_end() -> None:
    timeline = Timeline(100.0)
    timeline.note(101.0, [alert("A", "pending")])
    timeline.note(103.0, [alert("A", "firing"), alert("A", "pending"), alert("B", "pending")])
    timeline.mended(110.0)
    timeline.note(111.0, [alert("A", "firing")])
    assert timeline.active == {"A"}
    timeline.note(115.0, [])
    assert timeline.courses["A"] == Course("A", "warn", 1.0, 3.0, 5.0)
    assert list(timeline.fired()) == ["A"], "B was only pending"
    timeline.note(116.0, [alert("A", "pending")])
    assert timeline.courses["A"].resolved_s is None, "it is there again"


def test_the_page_has_a_row_for_each_alert_and_says_what_went_wrong() -> None:
    played = Played(DISPATCHERS_KILLED, [Course("HeadgateTargetDown", "urgent", 1.2, 4.0, None)], ["X did not fire"])
    text = page([played], rules(), 0.1, ["all there."])
    row = "| every dispatcher killed | started again | urgent | 30s | 1 s | 4 s | never | [HeadgateTargetDown]("
    assert row in text and "**X did not fire**" in text and text.endswith("all there.\n")
