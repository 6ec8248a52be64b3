"""The chart renders what it should for every value set, refuses what is wrong by name, and is documented."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.places import CHART, ROLES, VALUE_SETS
from tests.deploy.refused_values import REFUSED
from tests.deploy.rendered import RenderFailed, chart, container, mounts, pod_spec, workloads
from tests.deploy.tools import run
from tests.kafka.rights import Right, rights_on_page

HEARTBEAT_S = 30  # the longest silence of a stream of ours: WebSocket; the others send a comment every 15 s
MINORS = ("1.35", "1.36", "1.37")
CUSTOM = {"HTTPRoute", "KafkaTopic", "KafkaUser", "PodMonitor", "PrometheusRule", "ScaledObject"}
SETS = {path.stem.removesuffix("-values"): path for path in VALUE_SETS}
OPTIONAL = ("--set", "canary.enabled=true,maintenance.enabled=true")
each_set = pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)


@each_set
def test_lint_is_silent(helm: Path, values: Path) -> None:
    status, text = run(helm, "lint", "--strict", CHART, "--values", values)
    assert status == 0 and "0 chart(s) failed" in text and "[WARNING]" not in text, text


@each_set
def test_documents_are_valid_in_three_minors(helm: Path, values: Path) -> None:
    rendered = chart(helm, values, *OPTIONAL)
    for minor in MINORS:
        for document in rendered:
            if document["kind"] in CUSTOM:
                continue  # a real API server reads these: tests/deploy/on_cluster.py
            kubernetes_validate.validate(document, minor, strict=True)


def test_the_validator_finds_a_wrong_name(helm: Path) -> None:
    """The check itself."""
    deployment = workloads(chart(helm, SETS["minimal"]))["ingest"]
    pod_spec(deployment)["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(deployment, MINORS[-1], strict=True)


@pytest.mark.parametrize(("given", "words"), REFUSED, ids=[given for given, _ in REFUSED])
def test_wrong_values_are_refused_by_name(helm: Path, given: str, words: str) -> None:
    with pytest.raises(RenderFailed, match=re.escape(words)):
        chart(helm, SETS["minimal"], "--set", given)


@each_set
def test_pods_are_as_restricted_as_can_be(helm: Path, values: Path) -> None:
    for component, workload in workloads(chart(helm, values, *OPTIONAL)).items():
        pod, main = pod_spec(workload), container(workload)
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert main["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"requests", "limits"} <= set(main["resources"]) and "cpu" not in main["resources"]["limits"]
        assert "hostNetwork" not in pod and "hostPID" not in pod
        assert mounts(workload) or component == "init"


# One shard of many, or a full index disk, must not take every pod out of its Service.
EXCLUDED = {
    "ingest": "?exclude=some_owners&exclude=some_circuits",
    "dispatcher": "?exclude=index",
    "gateway": "?exclude=some_owners",
}


@each_set
def test_roles_have_probes_budgets_and_accounts(helm: Path, values: Path) -> None:
    rendered = chart(helm, values)
    found = workloads(rendered)
    accounts = {d["metadata"]["name"] for d in rendered if d["kind"] == "ServiceAccount"}
    budgets = [d for d in rendered if d["kind"] == "PodDisruptionBudget"]
    for role in ROLES:
        main = container(found[role])
        ready, live = main["readinessProbe"], main["livenessProbe"]
        assert (ready["httpGet"]["path"], live["httpGet"]["path"]) == (f"/readyz{EXCLUDED[role]}", "/livez")
        assert ready["periodSeconds"] * 5 < live["periodSeconds"] * live["failureThreshold"], "fast and slow"
        assert pod_spec(found[role])["serviceAccountName"] in accounts
        labels = found[role]["spec"]["template"]["metadata"]["labels"]
        assert len([b for b in budgets if b["spec"]["selector"]["matchLabels"].items() <= labels.items()]) == 1
        assert found[role]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert all(d["automountServiceAccountToken"] is False for d in rendered if d["kind"] == "ServiceAccount")


@each_set
def test_gateways_are_given_nothing_of_kafka(helm: Path, values: Path) -> None:
    rendered = chart(helm, values)
    gateway = workloads(rendered)["gateway"]
    assert not [env for env in container(gateway)["env"] if "LOG__" in env["name"]]
    assert "kafka" not in {volume["name"] for volume in pod_spec(gateway)["volumes"]}
    policies = {d["metadata"]["labels"]["app.kubernetes.io/component"]: d["spec"] for d in rendered
                if d["kind"] == "NetworkPolicy"}  # fmt: skip
    assert set(policies) == {*ROLES, "init", "test"}
    egress = [port["port"] for rule in policies["gateway"]["egress"] for port in rule["ports"]]
    assert sorted(egress) == [53, 53, 8090]
    to_dispatcher = policies["dispatcher"]["ingress"][0]
    callers = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in to_dispatcher["from"]}
    assert callers == {"ingest", "gateway"} and to_dispatcher["ports"] == [{"port": 8090}]
    kafka = {port["port"] for rule in policies["dispatcher"]["egress"] for port in rule["ports"]} - {53}
    assert kafka == ({9092} if values == SETS["minimal"] else {9093})


@each_set
def test_dispatchers_have_no_key_that_signs_tokens(helm: Path, values: Path) -> None:
    found = workloads(chart(helm, values))
    keys = {name: _keys(workload) for name, workload in found.items() if name != "init"}
    assert keys["dispatcher"] == {"cluster-secret"}
    assert keys["ingest"] == keys["gateway"] == {"auth-secret", "cluster-secret"} and keys["test"] == {"auth-secret"}
    given = [env["name"] for env in container(found["dispatcher"])["env"] if "SECRET" in env["name"]]
    assert given == ["HEADGATE_CLUSTER__SECRET_FILE"]


def test_a_secret_without_a_cluster_key_is_derived_by_every_role(helm: Path) -> None:
    found = workloads(chart(helm, SETS["minimal"], "--set", "auth.secret=,auth.existingSecret=mine"))
    assert _keys(found["dispatcher"]) == _keys(found["gateway"]) == {"auth-secret"}


def test_the_chart_s_own_secret_holds_both_keys(helm: Path) -> None:
    (secret,) = (d for d in chart(helm, SETS["minimal"]) if d["kind"] == "Secret")
    values = {name: base64.b64decode(text) for name, text in secret["data"].items()}
    assert set(values) == {"auth-secret", "cluster-secret"} and len(values["cluster-secret"]) == 64
    assert values["auth-secret"] not in values["cluster-secret"]


def _keys(workload: dict[str, Any]) -> set[str]:
    """The files of secrets that a pod is given."""
    return {item["path"] for volume in pod_spec(workload)["volumes"] if volume["name"] == "auth"
            for item in volume["secret"]["items"]}  # fmt: skip


def test_streams_and_the_rest_have_their_ways_in(helm: Path) -> None:
    rendered = chart(helm, SETS["production"])
    (ingress,) = (d for d in rendered if d["kind"] == "Ingress")
    paths = {p["path"]: p["backend"]["service"]["name"] for p in ingress["spec"]["rules"][0]["http"]["paths"]}
    streams = dict.fromkeys(("/ws/subscribe", "/connect", "/sse/subscribe"), "hg-headgate-gateway")
    assert paths == streams | {"/": "hg-headgate-ingest"}
    (route,) = (d for d in rendered if d["kind"] == "HTTPRoute")
    routed = {m["path"]["value"]: r["backendRefs"][0]["name"] for r in route["spec"]["rules"] for m in r["matches"]}
    assert routed == paths | {"/api/v1/events": "hg-headgate-ingest"}
    endless = {m["path"]["value"] for r in route["spec"]["rules"] for m in r["matches"] if "timeouts" in r}
    assert endless == {*streams, "/api/v1/events"}, "a stream stands as long as its client"
    times = [r["timeouts"] for r in route["spec"]["rules"] if "timeouts" in r]
    assert times == [{"request": "0s", "backendRequest": "0s"}] * 2
    noted = ingress["metadata"]["annotations"]
    assert noted["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(noted["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > HEARTBEAT_S * 4
    services = {d["metadata"]["name"] for d in rendered if d["kind"] == "Service"}
    assert set(paths.values()) <= services


def test_the_canary_is_off_by_default_and_reaches_ingest_and_gateways_only(helm: Path) -> None:
    assert "canary" not in workloads(chart(helm, SETS["production"]))
    given = ("--set", "canary.enabled=true", "--set", r"canary.settings.canary\.every_s=0.5")
    rendered = chart(helm, SETS["production"], *given)
    canary = workloads(rendered)["canary"]
    env = {entry["name"]: entry["value"] for entry in container(canary)["env"]}
    assert env["HEADGATE_CANARY__EVERY_S"] == "0.5" and _keys(canary) == {"auth-secret"}
    services = {f"http://{d['metadata']['name']}:80" for d in rendered if d["kind"] == "Service"}
    assert {env["HEADGATE_CLIENT__URL"], env["HEADGATE_CLIENT__STREAM_URL"]} <= services
    for document in (d for d in rendered if d["metadata"]["name"] == "hg-headgate-canary"):
        kubernetes_validate.validate(document, MINORS[-1], strict=True)
    policies = {d["metadata"]["labels"]["app.kubernetes.io/component"]: d["spec"] for d in rendered
                if d["kind"] == "NetworkPolicy"}  # fmt: skip
    to = [rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
          for rule in policies["canary"]["egress"] if "to" in rule]  # fmt: skip
    assert to == ["ingest", "gateway"]
    pod = pod_spec(canary)
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False


def test_scalers_leave_the_number_of_pods_alone(helm: Path) -> None:
    found = workloads(chart(helm, SETS["production"]))
    assert "replicas" not in found["ingest"]["spec"] and "replicas" not in found["gateway"]["spec"]
    assert workloads(chart(helm, SETS["minimal"]))["gateway"]["spec"]["replicas"] == 2


def test_an_upgrade_of_dispatchers_can_stop_at_a_pod(helm: Path) -> None:
    def update(*arguments: str) -> dict[str, Any]:
        strategy: dict[str, Any] = workloads(chart(helm, SETS["minimal"], *arguments))["dispatcher"]["spec"]
        return dict(strategy["updateStrategy"])

    assert update() == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert update("--set", "dispatcher.partition=1")["rollingUpdate"] == {"partition": 1}


def test_strimzi_resources_follow_what_the_cluster_serves(helm: Path) -> None:
    def versions(*arguments: str) -> set[str]:
        rendered = chart(helm, SETS["production"], *arguments)
        return {d["apiVersion"] for d in rendered if d["kind"].startswith("Kafka")}

    assert versions() == {"kafka.strimzi.io/v1"}
    assert versions("-a", "kafka.strimzi.io/v1beta2") == {"kafka.strimzi.io/v1beta2"}
    assert versions("-a", "kafka.strimzi.io/v1beta2", "-a", "kafka.strimzi.io/v1") == {"kafka.strimzi.io/v1"}


def test_strimzi_topics_are_those_that_init_makes(helm: Path) -> None:
    from headgate.core.wire.records import LogName  # noqa: PLC0415
    from headgate.runtime.logs.kafka_init import topic_configs  # noqa: PLC0415 - aiokafka is slow to import

    rendered = chart(helm, SETS["production"])
    topics = {d["spec"]["topicName"]: d["spec"] for d in rendered if d["kind"] == "KafkaTopic"}
    assert set(topics) == {f"headgate.{log.value}" for log in LogName}
    for log in LogName:
        spec = topics[f"headgate.{log.value}"]
        assert {key: str(value) for key, value in spec["config"].items()} == topic_configs(log, 3)
        assert spec["partitions"] == (1 if log is LogName.REVOCATIONS else 64) and spec["replicas"] == 3


def test_how_long_messages_are_kept_is_a_value_of_the_chart(helm: Path) -> None:
    values = ("--set", "kafka.retentionMs=3600000", "--set", "kafka.retentionBytes=1000000")
    rendered = chart(helm, SETS["production"], *values)
    topics = {d["spec"]["topicName"]: d["spec"]["config"] for d in rendered if d["kind"] == "KafkaTopic"}
    for log, kept in (("messages", (3_600_000, 1_000_000)), ("inbox", (3_600_000, -1))):
        config = topics[f"headgate.{log}"]
        assert (int(config["retention.ms"]), int(config["retention.bytes"])) == kept
    ingest = workloads(rendered)["ingest"]["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "HEADGATE_LOG__RETENTION_MS", "value": "3600000"} in ingest["env"]


def test_a_kafka_user_for_each_role_has_the_rights_on_the_page(helm: Path) -> None:
    rendered = chart(helm, SETS["production"], "--set", "maintenance.enabled=true")
    users = {d["metadata"]["name"]: d["spec"]["authorization"]["acls"] for d in rendered if d["kind"] == "KafkaUser"}
    given = {
        Right(name.rpartition("-")[2], acl["resource"]["type"], acl["resource"]["name"], operation)
        for name, acls in users.items()
        for acl in acls
        for operation in acl["operations"]
    }
    assert given == set(rights_on_page("headgate"))
    found = workloads(rendered)
    for role in ("init", "ingest", "dispatcher", "maintenance"):
        env = {entry["name"]: entry.get("value") for entry in container(found[role])["env"]}
        user = env["HEADGATE_LOG__SECURITY__USER"]
        assert user in users and user.endswith(f"-{role}")
        (volume,) = [volume for volume in pod_spec(found[role])["volumes"] if volume["name"] == "kafka"]
        assert volume["projected"]["sources"][0]["secret"]["name"] == user


def test_strimzi_users_may_have_certificates(helm: Path) -> None:
    mutual = "kafka.security.protocol=SSL,strimzi.user.authentication=tls"
    found = workloads(chart(helm, SETS["production"], "--set", mutual))
    for role in ("init", "ingest", "dispatcher"):
        (volume,) = [volume for volume in pod_spec(found[role])["volumes"] if volume["name"] == "kafka"]
        secrets = [source["secret"]["name"] for source in volume["projected"]["sources"]]
        assert secrets == ["events-cluster-ca-cert", f"hg-headgate-{role}"]


def test_links_use_tls_where_a_secret_is_named(helm: Path) -> None:
    found = workloads(chart(helm, SETS["production"]))
    for role in ROLES:
        env = {entry["name"]: entry.get("value") for entry in container(found[role])["env"]}
        assert "/etc/headgate/links" in mounts(found[role])
        (volume,) = [volume for volume in pod_spec(found[role])["volumes"] if volume["name"] == "links"]
        assert volume["secret"]["secretName"] == "headgate-links"
        files = {f"/etc/headgate/links/{item['path']}" for item in volume["secret"]["items"]}
        assert files == {env[f"HEADGATE_CLUSTER__TLS__{part}"] for part in ("CA", "CERTIFICATE", "KEY")}
        assert env["HEADGATE_CLUSTER__TLS__SERVER_NAME"] == "hg-headgate-dispatcher"
    for role, plain in workloads(chart(helm, SETS["minimal"])).items():
        assert not [entry for entry in container(plain)["env"] if "TLS" in entry["name"]], role


def test_notes_say_how_to_publish_the_first_message(helm: Path) -> None:
    command: list[str | Path] = [
        "install",
        "hg",
        CHART,
        "--dry-run=client",
        "--values",
        SETS["minimal"],
        "--namespace",
        "events",
    ]
    status, text = run(helm, *command)
    notes = text[text.index("NOTES:") :]
    assert status == 0 and "topics/hello/publish" in notes and "-n events" in notes and "token mint" in notes


def test_schema_and_readme_know_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert set(_names(values, schema)) == set(_declared(schema)) - {"global"}
    assert set(_required(schema)) == {name for name in _names(values, schema) if _must_be_there(name, values)}
    readme = (CHART / "README.md").read_text("utf-8")
    rows = set(re.findall(r"^\| ([\w.]+) \|", readme, re.MULTILINE))
    missing = {name for name in _leaves(values) if not any(name == row or name.startswith(f"{row}.") for row in rows)}
    assert missing == set(), "run helm-docs"


def _names(values: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Names of values down to where the schema lists members."""
    for key, value in values.items():
        below = schema.get("properties", {}).get(key, {})
        yield f"{prefix}{key}"
        if isinstance(value, dict) and below.get("properties"):
            yield from _names(value, below, f"{prefix}{key}.")


def _declared(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, below in schema.get("properties", {}).items():
        yield f"{prefix}{key}"
        yield from _declared(below, f"{prefix}{key}.")


def _required(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Names without which values are refused: those that `--reuse-values` would leave out of a newer chart."""
    for key, below in schema.get("properties", {}).items():
        if key in schema.get("required", []):
            yield f"{prefix}{key}"
        yield from _required(below, f"{prefix}{key}.")


def _must_be_there(name: str, values: dict[str, Any]) -> bool:
    found: Any = values
    for part in name.split("."):
        found = found[part]
    return found is not None and ".limits." not in name


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
