"""What operators do with the chart: upgrade, stop a role, maintain the logs, test a release, scale, follow an alert."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from headgate.runtime import settings
from headgate.runtime.system import SystemClock
from headgate.runtime.tokens import Authenticator, TokenKey
from tests.cli.conftest import Headgate
from tests.deploy.places import CHART, ROOT
from tests.deploy.rendered import chart, chart_environment, container, mounts, pod_spec, workloads

MINIMAL: Final = CHART / "ci" / "minimal-values.yaml"
PRODUCTION: Final = CHART / "ci" / "production-values.yaml"
PAGES: Final = [*(ROOT / "docs").rglob("*.md"), CHART / "README.md", ROOT / "README.md"]
UPGRADE: Final = re.compile(r"helm (?:-n \S+ )?upgrade headgate (?:.*\\\n)*.*")


def test_pages_upgrade_with_the_defaults_of_the_new_chart() -> None:
    """`--reuse-values` leaves out what a newer chart has beside the old values."""
    commands = [found for page in PAGES for found in UPGRADE.findall(page.read_text("utf-8"))]
    assert len(commands) > 3
    for command in commands:
        assert "--reset-then-reuse-values" in command or "--values" in command, command
    assert not [page for page in PAGES if re.search(r"\s--reuse-values", page.read_text("utf-8"))]


@pytest.mark.parametrize(("role", "scaler"), [("ingest", "autoscaling"), ("gateway", "keda")])
def test_zero_replicas_stop_a_role_that_is_scaled(helm: Path, role: str, scaler: str) -> None:
    rendered = chart(helm, PRODUCTION, "--set", f"{role}.replicas=0")
    assert workloads(rendered)[role]["spec"]["replicas"] == 0
    assert "replicas" not in workloads(chart(helm, PRODUCTION))[role]["spec"], scaler
    scaled = {d["kind"]: d["metadata"].get("annotations") for d in rendered if d["kind"] == "ScaledObject"}
    paused = {"autoscaling.keda.sh/paused-replicas": "0"} if role == "gateway" else None
    assert scaled == {"ScaledObject": paused}, "KEDA would start it again; a HorizontalPodAutoscaler does not"


def test_keda_counts_the_sessions_of_its_release(helm: Path) -> None:
    (scaled,) = [d for d in chart(helm, PRODUCTION) if d["kind"] == "ScaledObject"]
    (trigger,) = scaled["spec"]["triggers"]
    pods = re.findall(r'pod=~"([^"]+)"', trigger["metadata"]["query"])[0]
    assert re.fullmatch(pods, "hg-headgate-gateway-7d4b9c6f5-x2x4z")
    assert not re.fullmatch(pods, "other-headgate-gateway-7d4b9c6f5-x2x4z")
    assert trigger["metadata"]["ignoreNullValues"] == "false", "no figures are no sessions"


def test_maintenance_has_the_kafka_of_the_dispatchers_and_no_other_secret(helm: Path, tmp_path: Path) -> None:
    assert "maintenance" not in workloads(chart(helm, PRODUCTION))
    rendered = chart(helm, PRODUCTION, "--set", "maintenance.enabled=true")
    found = workloads(rendered)
    env = chart_environment(found["maintenance"], tmp_path)
    options = settings.load({}, None, env).log_options()
    dispatcher = settings.load({}, None, chart_environment(found["dispatcher"], tmp_path)).log_options()
    assert (options.url, options.prefix, options.keep_ms) == (dispatcher.url, dispatcher.prefix, dispatcher.keep_ms)
    assert options.security.user == "hg-headgate-maintenance" and options.security.protocol == "SASL_SSL"
    assert not [name for name in env if "SECRET" in name] and "/tmp" in mounts(found["maintenance"])
    assert container(found["maintenance"])["command"] == ["sleep", "infinity"]
    users = {d["metadata"]["name"] for d in rendered if d["kind"] == "KafkaUser"}
    assert "hg-headgate-maintenance" in users
    (volume,) = [volume for volume in pod_spec(found["maintenance"])["volumes"] if volume["name"] == "kafka"]
    secrets = [source["secret"]["name"] for source in volume["projected"]["sources"]]
    assert secrets == ["hg-headgate-maintenance", "events-cluster-ca-cert"]


@pytest.mark.parametrize("where", ["settings", "ingest.settings"])
def test_helm_test_mints_a_token_that_ingest_takes(helm: Path, tmp_path: Path, where: str) -> None:
    """Issuer, audience and the longest life of a token, of all roles or of ingest alone."""
    asked = {"auth.issuer": "https://id.example.com", "auth.audience": "headgate", "auth.token_life_s": 120}
    found = workloads(chart(helm, PRODUCTION, "--set-json", f"{where}={json.dumps(asked)}"))
    (script,) = container(found["test"])["args"]
    command = re.findall(r"\$\(headgate (token mint [^)]+)\)", script)[0]
    pod = Headgate(tmp_path)
    pod.environ |= chart_environment(found["test"], tmp_path)
    minted = pod(*command.split())
    assert minted.status == 0, minted.err
    ingest = settings.resolve(settings.load({}, None, chart_environment(found["ingest"], tmp_path)), "ingest")
    auth = ingest.auth
    assert (auth.issuer, auth.audience, auth.token_life_s) == tuple(asked.values())
    key = TokenKey(ingest.token_secrets()[0], auth.issuer, auth.audience, life_s=auth.token_life_s)
    caller = Authenticator("jwt", key, SystemClock()).authenticate(minted.out.strip()).caller
    assert caller.user_id == "helm-test" and caller.admin


def test_alerts_link_to_the_page_that_is_named(helm: Path) -> None:
    def notes(*arguments: str) -> list[dict[str, Any]]:
        (rule,) = [d for d in chart(helm, PRODUCTION, *arguments) if d["kind"] == "PrometheusRule"]
        return [each["annotations"] for group in rule["spec"]["groups"] for each in group["rules"]]

    page = "https://git.example.com/headgate/operations.md"
    linked = notes("--set", f"monitoring.prometheusRule.runbookUrl={page}")
    assert [note["runbook_url"] for note in linked] == [
        note["runbook"].replace("docs/operations.md", page) for note in notes()
    ]
    assert not [note for note in notes() if "runbook_url" in note]


def test_chart_docs_name_values_that_there_are() -> None:
    """Every `--set name=value` of the pages."""
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    named = {name for page in PAGES for name in re.findall(r"--set '?([a-z][\w.]*)=", page.read_text("utf-8"))}
    assert "maintenance.enabled" in named
    for name in named:
        found = values
        for part in name.split("."):
            assert part in found, name
            found = found[part]
