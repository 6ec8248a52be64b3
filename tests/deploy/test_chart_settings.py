"""Settings in the values of the chart: each reaches its role once, the narrower wins, none is accepted and ignored."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from headgate.runtime.settings import SECRET_FILES
from tests.deploy.places import CHART, ROLES, VALUE_SETS
from tests.deploy.rendered import RenderFailed, chart, container, pod_spec, workloads

MINIMAL: Final = CHART / "ci" / "minimal-values.yaml"
LOCKED: Final = CHART / "ci" / "locked-down-values.yaml"
ALL: Final = (
    "--set", "canary.enabled=true,maintenance.enabled=true,kafka.retentionBytes=1000000,kafka.shards=4",
)  # fmt: skip
OPEN: Final = {"client.url", "client.stream_url", "index.total_bytes"}  # another place to call, another share of a disk


def names(workload: dict[str, Any]) -> list[str]:
    return [entry["name"] for entry in container(workload)["env"]]


def value(workload: dict[str, Any], name: str) -> str:
    (found,) = [str(entry["value"]) for entry in container(workload)["env"] if entry["name"] == name]
    return found


def given(helm: Path) -> set[str]:
    """The settings that the chart gives by itself, in the fullest rendering."""
    second = ("--set", "auth.secondSecretKey=next,cluster.tls.secret=links")
    sasl = ("--set", "kafka.security.protocol=SASL_SSL,kafka.security.user=me,kafka.security.existingSecret=mine")
    found = workloads(chart(helm, LOCKED, *ALL, *second, *sasl))
    variables = {name for workload in found.values() for name in names(workload) if name.startswith("HEADGATE_")}
    return {
        name.removeprefix("HEADGATE_").removesuffix("_FILE").lower().replace("__", ".") for name in variables
    } - set(yaml.safe_load(LOCKED.read_text("utf-8"))["settings"])


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)
def test_no_variable_stands_twice(helm: Path, values: Path) -> None:
    """Kubernetes takes the last one, and refuses such a list from Helm 4."""
    extra = ("--set-json", 'extraEnv=[{"name":"A","value":"1"}]', "--set-json", 'gateway.extraEnv=[{"name":"A"}]')
    for role, workload in workloads(chart(helm, values, *ALL, *extra)).items():
        found = names(workload)
        assert len(found) == len(set(found)), role


def test_what_the_chart_sets_is_refused_in_settings_by_the_name_of_its_value(helm: Path) -> None:
    """Else it would stand twice, reach some roles only, or leave the pod's grace period behind."""
    own = given(helm) - OPEN
    assert {"drain.deadline_s", "log.shards", "auth.secret_second", "cluster.tls.server_name"} <= own
    for setting in sorted(own):
        with pytest.raises(RenderFailed, match=f"settings: {re.escape(setting)} is set by the chart") as raised:
            chart(helm, MINIMAL, "--set-json", f"settings={json.dumps({setting: '1'})}")
        there: Any = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
        for part in re.findall(r", from ([\w.]+)", str(raised.value))[0].split("."):
            there = there[part]


def test_no_secret_may_stand_in_settings(helm: Path) -> None:
    for file in SECRET_FILES:
        for name in (file, file.removesuffix("_file")):
            with pytest.raises(RenderFailed, match=re.escape(f"settings: {name} is set by the chart")):
                chart(helm, MINIMAL, "--set-json", f"ingest.settings={json.dumps({name: 'x' * 32})}")


@pytest.mark.parametrize("name", ["HEADGATE_DRAIN__DEADLINE_S", "HEADGATE_AUTH__SECRET", "POD_IP"])
def test_a_variable_of_the_chart_is_refused_in_extra_env(helm: Path, name: str) -> None:
    with pytest.raises(RenderFailed, match=f"extraEnv: {name} is set already, by the chart"):
        chart(helm, MINIMAL, "--set-json", f'dispatcher.extraEnv=[{{"name":"{name}","value":"x"}}]',
              "--set", "auth.secret=,auth.existingSecret=mine")  # fmt: skip
    twice = ("--set", r"settings.hot\.enter=9", "--set-json", 'extraEnv=[{"name":"HEADGATE_HOT__ENTER","value":"8"}]')
    with pytest.raises(RenderFailed, match="HEADGATE_HOT__ENTER is set already, by settings"):
        chart(helm, MINIMAL, *twice)


@pytest.mark.parametrize(
    ("general", "own", "text"),
    [(True, False, "false"), (100, 0, "0"), ("*", "", ""), (1, 0.5, "0.5"), (False, True, "true")],
    ids=["false", "zero", "empty", "fraction", "true"],
)
@pytest.mark.parametrize("role", [*ROLES, "canary"])
def test_the_settings_of_a_role_win_whatever_they_are(
    helm: Path, role: str, general: object, own: object, text: str
) -> None:
    sets = [f"settings={json.dumps({'x.y': general})}", f"{role}.settings={json.dumps({'x.y': own})}"]
    found = workloads(chart(helm, MINIMAL, *ALL, *(part for each in sets for part in ("--set-json", each))))
    assert value(found[role], "HEADGATE_X__Y") == text
    other = "gateway" if role != "gateway" else "ingest"
    assert value(found[other], "HEADGATE_X__Y") == (json.dumps(general) if general != "*" else "*")


def test_the_extra_environment_of_a_role_wins_and_the_rest_keeps_its_order(helm: Path) -> None:
    general = '[{"name":"A","value":"1"},{"name":"B","value":"2"}]'
    own = '[{"name":"C","value":"$(B)"},{"name":"A","value":"3"}]'
    sets = ("--set-json", f"extraEnv={general}", "--set-json", f"gateway.extraEnv={own}")
    found = workloads(chart(helm, MINIMAL, *sets))
    assert names(found["gateway"])[-3:] == ["B", "C", "A"] and value(found["gateway"], "A") == "3"
    assert names(found["ingest"])[-2:] == names(found["init"])[-2:] == ["A", "B"]


def test_the_canary_may_call_another_place(helm: Path) -> None:
    sets = ("--set", r"canary.enabled=true,canary.settings.client\.url=https://events.example.com")
    canary = workloads(chart(helm, MINIMAL, *sets))["canary"]
    assert value(canary, "HEADGATE_CLIENT__URL") == "https://events.example.com"


def test_a_second_secret_reaches_those_who_check_tokens(helm: Path) -> None:
    """While the signing key is replaced: a file of the same Secret, for ingest and gateways alone."""
    found = workloads(chart(helm, LOCKED, *ALL, "--set", "auth.secondSecretKey=next"))
    for role, workload in found.items():
        mounted = {item["key"]: item["path"] for volume in pod_spec(workload).get("volumes", [])
                   if volume["name"] == "auth" for item in volume["secret"]["items"]}  # fmt: skip
        checks = role in ("ingest", "gateway")
        assert (mounted.get("next") == "auth-secret-second") is checks, role
        assert ("HEADGATE_AUTH__SECRET_SECOND_FILE" in names(workload)) is checks, role
