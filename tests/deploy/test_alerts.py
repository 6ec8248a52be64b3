"""Alert rules and dashboards: generated files are current, names exist, every alert fires and stays quiet."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from headgate.core.wire.link_stats import TopEntry, TopLists
from headgate.runtime.metrics import Metrics
from helm.observability.alerts import ALERTS
from helm.observability.dashboards import queries
from helm.observability.files import ROOT, RULE_TESTS, RULES, contents
from tests.deploy.places import CHART
from tests.deploy.rendered import chart
from tests.deploy.tools import run

FIRING_CASES = sum(1 + len(alert.also_fires) for alert in ALERTS)
QUIET_CASES = sum(1 + len(alert.also_quiet) for alert in ALERTS)
EXPRESSIONS = [*(alert.expr for alert in ALERTS), *queries()]
# What the scraper adds (`up`, job, role, instance) and what comes of every Python process under Linux.
SCRAPED = {"up"} | {
    f"process_{name}"
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds")
}
# What the kubelet and node-exporter say of disks.
DISKS = {"kubelet_volume_stats_used_bytes", "kubelet_volume_stats_capacity_bytes"}
DISKS |= {"node_filesystem_avail_bytes", "node_filesystem_size_bytes"}
SCRAPED |= DISKS
REPLICAS = {"kube_deployment_spec_replicas", "kube_statefulset_replicas"}  # of kube-state-metrics
SCRAPED |= REPLICAS | {"kafka_server_replicamanager_underreplicatedpartitions"}  # and of Kafka's exporter
SCRAPED_LABELS = (
    {"job", "role", "instance"} | {"namespace", "persistentvolumeclaim", "mountpoint"} | {"deployment", "statefulset"}
)
TESTS_S = 240.0  # forecasts look at hours of measurements
WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
QUOTED = re.compile(r'"[^"]*"')


def exported() -> dict[str, set[str]]:
    """Every series name that the code exports, with its labels."""
    found: dict[str, set[str]] = {}
    metrics = Metrics()
    metrics.watch_shards(lambda: {0: 0})
    first = [TopEntry("a", 1)]
    metrics.top.watch(lambda: TopLists(first, first, first, first))
    for family in metrics.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def series_of(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Every series that a query names, with the labels it selects by."""
    for name, selector in re.findall(
        r"\b((?:headgate|process|kubelet|node|kube|kafka)_\w+|up)\b(?:\{([^}]*)\})?", expression
    ):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", QUOTED.sub("", selector)))


def groups(expression: str) -> Iterator[tuple[set[str], str]]:
    """Every grouping of a query: its labels, and the text in the brackets that it groups."""
    for found in re.finditer(r"\bby \(([^)]*)\) \(", expression):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(expression[end], 0)
            end += 1
        yield {label.strip() for label in found[1].split(",")}, expression[found.end() : end]


@pytest.mark.parametrize("path", contents(), ids=lambda path: path.name)
def test_the_checked_in_file_is_what_the_code_writes(path: Path) -> None:
    assert path.read_text("utf-8") == contents()[path], "run python -m helm.observability"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_name_is_one_that_is_exported(expression: str) -> None:
    known = exported()
    series = list(series_of(expression))
    assert series
    for name, selected in series:
        assert name in known or name in SCRAPED, f"{name} is not exported"
        assert selected <= known.get(name, set()) | SCRAPED_LABELS, name
    for grouped, body in groups(expression):
        for name, _ in series_of(body):
            assert grouped <= known.get(name, set()) | SCRAPED_LABELS, f"{name} is grouped by {sorted(grouped)}"


def test_the_names_check_finds_a_wrong_name() -> None:
    """The check itself: a metric renamed in the code is found in the query."""
    assert list(series_of('sum by (role) (rate(headgate_publish_total{outcome!~"a=b"}[5m]))')) == [
        ("headgate_publish_total", {"outcome"})
    ]
    assert "headgate_publish_total" not in exported()
    assert list(groups("a / max by (le, of) (rate(b[5m])) > 1")) == [({"le", "of"}, "rate(b[5m]))")]


def test_every_metric_of_ours_is_looked_at() -> None:
    used = {name for expression in EXPRESSIONS for name, _ in series_of(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    assert families - {re.sub(r"_bucket$", "", name) for name in used} == set()


def test_promtool_reads_the_rules(promtool: Path) -> None:
    status, text = run(promtool, "check", "rules", RULES)
    assert status == 0 and f"{len(ALERTS)} rules found" in text, text


def test_every_alert_fires_in_its_case_and_stays_quiet_in_its_twin(promtool: Path) -> None:
    status, text = run(promtool, "test", "rules", RULE_TESTS, timeout_s=TESTS_S)
    assert status == 0, text
    assert RULE_TESTS.read_text("utf-8").count(" fires") == FIRING_CASES


def test_a_rule_test_with_the_twins_swapped_fails_for_each_alert(promtool: Path, tmp_path: Path) -> None:
    """The cases themselves: none of them passes whatever the rule says."""
    swapped = tmp_path / "swapped.yaml"
    text = RULE_TESTS.read_text("utf-8").replace("../../helm/headgate/files/alerts.yaml", str(RULES))
    swapped.write_text(text.replace('alertstate=\\"firing', 'alertstate=\\"nonsense'), "utf-8")
    status, out = run(promtool, "test", "rules", swapped, timeout_s=TESTS_S)
    assert status != 0 and out.count("exp:") == FIRING_CASES, out
    noisy = {alert.expr: "vector(1)" for alert in ALERTS}
    always = RULES.read_text("utf-8")
    for rule in re.findall(r'"expr": (".*"),', always):
        always = always.replace(rule, '"vector(1)"', 1)
    assert len(noisy) == len(ALERTS)
    (tmp_path / "always.yaml").write_text(re.sub(r'"for": "[^"]*"', '"for": "0s"', always), "utf-8")
    swapped.write_text(text.replace(str(RULES), str(tmp_path / "always.yaml")), "utf-8")
    status, out = run(promtool, "test", "rules", swapped, timeout_s=TESTS_S)
    assert status != 0 and out.count("exp: nil") == QUIET_CASES, "every quiet case notices an alert that always fires"


def test_a_firing_case_notices_an_alert_that_waits_less_long(promtool: Path, tmp_path: Path) -> None:
    (tmp_path / "hasty.yaml").write_text(
        re.sub(r'"for": "(?!0s|30s|1m)[^"]*"', '"for": "1m"', RULES.read_text("utf-8")), "utf-8"
    )
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        RULE_TESTS.read_text("utf-8").replace("../../helm/headgate/files/alerts.yaml", "hasty.yaml"), "utf-8"
    )
    status, out = run(promtool, "test", "rules", cases, timeout_s=TESTS_S)
    patient = sum(1 + len(alert.also_fires) for alert in ALERTS if alert.hold_minutes > 1)
    assert status != 0 and out.count("exp: {} ") == patient > 15, out


def test_promtool_reads_the_scrape_configuration(promtool: Path, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(RULES.read_text("utf-8"), "utf-8")
    config = tmp_path / "prometheus.yml"
    config.write_text((ROOT / "compose" / "prometheus.yml").read_text("utf-8"), "utf-8")
    status, text = run(promtool, "check", "config", config)
    assert status == 0, text


def test_every_alert_has_its_words_in_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    headings = set(re.findall(r"^#+ (Headgate\w+)$", page, re.MULTILINE))
    assert {alert.name for alert in ALERTS} == headings


def test_limits_of_the_chart_are_those_of_the_rules_and_can_be_changed(helm: Path) -> None:
    limits = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["monitoring"]["prometheusRule"]["limits"]
    written = {alert.name: alert.expr for alert in ALERTS}
    assert {name: float(re.split(r" [<>] ", written[name])[-1]) for name in limits} == limits
    assert expressions_of(helm) == written
    given = (
        "HeadgateInboxBacklog=700",
        "HeadgateLoss=0.0005",
        "HeadgateLogLagPage=2000000",
        "HeadgateGatewaysLost=0.4",
    )
    changed = expressions_of(helm, *given)
    assert {name: expr.rsplit(" ", 2)[1:] for name, expr in changed.items() if expr != written[name]} == {
        "HeadgateInboxBacklog": [">", "700"],
        "HeadgateLoss": [">", "0.0005"],
        "HeadgateLogLagPage": [">", "2e+06"],
        "HeadgateGatewaysLost": ["<", "0.4"],
    }


def expressions_of(helm: Path, *limits: str) -> dict[str, str]:
    """The expression of every alert of the chart with these limits."""
    given = [word for limit in limits for word in ("--set-json", f"monitoring.prometheusRule.limits.{limit}")]
    on = ("--set", "monitoring.prometheusRule.enabled=true")
    values = CHART / "ci" / "minimal-values.yaml"
    rules = next(d for d in chart(helm, values, *on, *given) if d["kind"] == "PrometheusRule")
    return {rule["alert"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]}
