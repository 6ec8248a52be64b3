"""The NetworkPolicies of the chart let through what each role is told to reach, and nothing else."""

from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest

from tests.deploy.places import CHART, ROLES
from tests.deploy.rendered import chart

MINIMAL: Final = CHART / "ci" / "minimal-values.yaml"
PRODUCTION: Final = CHART / "ci" / "production-values.yaml"
NAMED: Final = ("--set-json", 'networkPolicy.clients=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]')
COMPONENT: Final = "app.kubernetes.io/component"


def policies(helm: Path, *arguments: str, values: Path = MINIMAL) -> dict[str, dict[str, Any]]:
    """The policies, by component."""
    rendered = [d for d in chart(helm, values, *arguments) if d["kind"] == "NetworkPolicy"]
    for policy in rendered:
        kubernetes_validate.validate(policy, "1.37", strict=True)
        selected = policy["spec"]["podSelector"]["matchLabels"]
        assert selected.items() <= policy["metadata"]["labels"].items()
    return {policy["metadata"]["labels"][COMPONENT]: policy["spec"] for policy in rendered}


def reaches(spec: dict[str, Any], port: int) -> bool:
    return any({"port": port} in rule.get("ports", ()) for rule in spec["egress"])


def components(peers: list[dict[str, Any]]) -> set[str]:
    return {peer["podSelector"]["matchLabels"][COMPONENT] for peer in peers if "podSelector" in peer}


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://id.example/keys", 443), ("http://keys/", 80), ("https://id.example:8443/a?b=c:1", 8443)],
)
def test_ingest_and_gateways_reach_the_key_server_and_nobody_else_does(helm: Path, url: str, port: int) -> None:
    given = policies(helm, "--set", rf"settings.auth\.jwks_url={url}")
    assert {role for role, spec in given.items() if reaches(spec, port)} == {"ingest", "gateway"}


@pytest.mark.parametrize("endpoint", ["http://collector:4318/v1/traces", "http://[fd00::1]:4318?x=:1"])
def test_every_role_that_traces_reaches_the_collector(helm: Path, endpoint: str) -> None:
    traced = policies(helm, "--set", rf"settings.tracing\.endpoint={endpoint}")
    assert {role for role, spec in traced.items() if reaches(spec, 4318)} == set(ROLES)
    assert not [role for role, spec in policies(helm).items() if reaches(spec, 4318)]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tracing"}}}
    named = ("--set-json", f"networkPolicy.collector=[{peer}]".replace("'", '"'))
    traced = policies(helm, "--set", rf"settings.tracing\.endpoint={endpoint}", *named)
    for role in ROLES:
        assert {"ports": [{"port": 4318}], "to": [peer]} in traced[role]["egress"]


@pytest.mark.parametrize(
    ("setting", "url"), [("auth.jwks_url", "https://id:8443/keys"), ("tracing.endpoint", "http://otel:8443/v1/traces")]
)
def test_what_the_settings_of_one_role_name_is_open_to_that_role(helm: Path, setting: str, url: str) -> None:
    name = setting.replace(".", r"\.")
    own = policies(helm, "--set", f"gateway.settings.{name}={url}")
    assert {role for role, spec in own.items() if reaches(spec, 8443)} == {"gateway"}
    other = policies(helm, "--set", f"settings.{name}={url},ingest.settings.{name}=https://other:9443/")
    assert reaches(other["ingest"], 9443) and not reaches(other["ingest"], 8443) and reaches(other["gateway"], 8443)


def test_more_ways_out_are_values(helm: Path) -> None:
    rule = {"ports": [{"port": 3128}]}
    more = policies(
        helm, "--set-json", 'networkPolicy.egress=[{"ports":[{"port":3128}]}]', "--set", "canary.enabled=true"
    )
    assert set(more) == {*ROLES, "init", "test", "canary"}
    assert all(rule in spec["egress"] for spec in more.values())


def test_admin_ports_are_closed_until_somebody_is_named(helm: Path) -> None:
    def opened(values: Path) -> list[Any]:
        rules = [rule for spec in policies(helm, values=values).values() for rule in spec["ingress"]]
        return [rule for rule in rules if any(port["port"] == 9090 for port in rule["ports"])]

    assert opened(MINIMAL) == []
    assert len(opened(PRODUCTION)) == 3 and all(rule["from"] for rule in opened(PRODUCTION))


@pytest.mark.parametrize(("canary", "callers"), [("false", {"test"}), ("true", {"test", "canary"})])
def test_our_own_callers_are_let_in_where_clients_are_named(helm: Path, canary: str, callers: set[str]) -> None:
    """`helm test` and the canary call the Services as clients do."""
    found = policies(helm, *NAMED, "--set", f"canary.enabled={canary}")
    for role, port in (("ingest", 8080), ("gateway", 8081)):
        (rule,) = [rule for rule in found[role]["ingress"] if rule["ports"] == [{"port": port}]]
        assert components(rule["from"]) == callers and {"ipBlock": {"cidr": "10.0.0.0/8"}} in rule["from"]
        assert "from" not in policies(helm)[role]["ingress"][0], "empty: anybody"
    for caller in callers:
        to = [rule for rule in found[caller]["egress"] if "to" in rule]
        assert {(*components(rule["to"]), rule["ports"][0]["port"]) for rule in to} == {
            ("ingest", 8080),
            ("gateway", 8081),
        }
        assert found[caller]["ingress"] == []


def test_maintenance_reaches_kafka_alone(helm: Path) -> None:
    spec = policies(helm, "--set", "maintenance.enabled=true")["maintenance"]
    assert spec["ingress"] == []
    assert [port["port"] for rule in spec["egress"] for port in rule["ports"]] == [53, 53, 9092]
