"""The chart on a real cluster: `make cluster-test` with KUBECONFIG; helm and kubectl of the machine.

Not collected by `make test`. HEADGATE_CRDS is a folder of CustomResourceDefinitions to apply first. With simulated
nodes (kwok) every value set is installed; with real ones the chart runs, and this process has to reach the Services.
HEADGATE_TEST_KAFKA_CLUSTER is a Kafka as pods reach it; without one, tests/deploy/kafka.yaml is started.
HEADGATE_TEST_VALUES are more values of the chart. With HEADGATE_TEST_BEFORE, the chart of an earlier version, and
HEADGATE_TEST_VALUES_BEFORE, such as its image, that version is upgraded to this one and comes back by the rollback.
"""

import asyncio
import base64
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from headgate.core.wire.rights import Caller
from headgate.runtime.tokens import TokenKey, mint
from tests.deploy.places import CHART, ROLES, VALUE_SETS
from tests.deploy.refused import REFUSED
from tests.deploy.tools import run
from tests.deploy.traffic import Traffic
from tests.e2e.harness import until

CLIENTS: Final = int(os.environ.get("HEADGATE_TEST_CLIENTS", "200"))
SECRET: Final = "a-cluster-test-secret-of-32-bytes-or-more"
WAIT: Final = ("--wait", "--timeout", "300s")
KAFKA: Final = Path(__file__).with_name("kafka.yaml")
NO_DIGEST: Final = ("--set", "image.digest=")
VOLUMES: Final = 9
OTHERS: Final = {"HTTPRoute", "KafkaTopic", "KafkaUser", "PodMonitor", "PrometheusRule", "ScaledObject"}


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Runs kubectl and insists on success."""
    status, text = _kubectl(*arguments, given=given)
    assert status == 0, f"kubectl {' '.join(arguments)}: {text}"
    return text


def _kubectl(*arguments: str, given: str | None = None) -> tuple[int, str]:
    done = subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=180, check=False
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def helm(*arguments: str, timeout_s: float = 400.0) -> str:
    """Runs helm and insists on success."""
    status, text = run("helm", *arguments, timeout_s=timeout_s)
    assert status == 0, f"helm {' '.join(arguments)}: {text}\n{_events(arguments)}"
    return text


def _events(arguments: tuple[str, ...]) -> str:
    where = next((arguments[at + 1] for at, word in enumerate(arguments) if word == "--namespace"), "default")
    return _kubectl("get", "pods,events", "--namespace", where)[1][-4000:]


@pytest.fixture(scope="session")
def nodes() -> str:
    """`real` or `simulated`; nothing here is skipped for want of a cluster."""
    assert os.environ.get("KUBECONFIG"), "make cluster-test needs KUBECONFIG"
    found = json.loads(kubectl("get", "nodes", "--output", "json"))["items"]
    assert found, "the cluster has no node"
    return "simulated" if "kwok.x-k8s.io/node" in found[0]["metadata"].get("annotations", {}) else "real"


@pytest.fixture(scope="session", autouse=True)
def crds(nodes: str) -> bool:
    """Whether the cluster knows the kinds of other projects."""
    folder = os.environ.get("HEADGATE_CRDS")
    if folder:
        files = [part for file in sorted(Path(folder).glob("*.yaml")) for part in ("--filename", str(file))]
        kubectl("apply", "--server-side", *files)
        kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return "podmonitors.monitoring.coreos.com" in kubectl("get", "crd", "--output", "name")


@pytest.fixture(scope="session", autouse=True)
def volumes(nodes: str) -> None:
    """Volumes by hand, where the default class provisions none."""
    classes = json.loads(kubectl("get", "storageclass", "--output", "json"))["items"]
    by_hand = [c["metadata"]["name"] for c in classes if c["provisioner"] == "kubernetes.io/no-provisioner"]
    if nodes == "real" or not by_hand:
        return
    for number in range(VOLUMES):
        spec = {"storageClassName": by_hand[0], "capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": f"/tmp/headgate-test-{number}"}}  # fmt: skip
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"headgate-test-{number}"}}
        kubectl("apply", "--filename", "-", given=json.dumps(volume | {"spec": spec}))


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace that enforces the restricted level, with the Secrets that the value sets name."""
    name = f"headgate-test-{secrets.token_hex(3)}"
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": level}}
    kubectl("apply", "--filename", "-", given=json.dumps(document))
    keys = {
        "auth-secret": SECRET,
        "cluster-secret": SECRET,
        "password": "x",
        "ca.crt": "x",
        "tls.crt": "x",
        "tls.key": "x",
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
    for secret in ("headgate-auth", "headgate", "events-cluster-ca-cert", "kafka-ca", "kafka-client"):
        document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "data": data}
        kubectl("apply", "--namespace", name, "--filename", "-", given=json.dumps(document))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)
def test_value_set_installs_tests_upgrades_and_rolls_back(nodes: str, crds: bool, namespace: str, values: Path) -> None:
    if values.stem == "production-values" and not crds:
        pytest.fail("the production set needs the kinds of HEADGATE_CRDS")
    here = ("--namespace", namespace)
    if nodes == "real":
        rendered = helm("template", "hg", str(CHART), "--values", str(values), *NO_DIGEST, *here)
        kubectl("apply", *here, "--dry-run=server", "--validate=strict", "--filename", "-", given=rendered)
        return
    began = time.monotonic()
    helm("install", "hg", str(CHART), "--values", str(values), *NO_DIGEST, *here, *WAIT)
    took = time.monotonic() - began
    helm("test", "hg", *here)
    helm(
        "upgrade", "hg", str(CHART), "--values", str(values), *NO_DIGEST, *here, *WAIT, "--set", "podLabels.turn=second"
    )
    helm("rollback", "hg", "1", *here, *WAIT)
    history = json.loads(helm("history", "hg", *here, "--output", "json"))
    assert [entry["status"] for entry in history] == ["superseded", "superseded", "deployed"]
    print(f"{values.stem}: installed in {took:.1f} s, tested, upgraded, rolled back")
    helm("uninstall", "hg", *here, "--wait")
    left = kubectl("get", *here, "deployments,statefulsets,services,poddisruptionbudgets", "--output", "name").split()
    assert left == []


def test_kinds_of_other_projects_take_what_the_chart_renders(crds: bool, namespace: str) -> None:
    assert crds, "HEADGATE_CRDS is a folder with their definitions"
    (production,) = (path for path in VALUE_SETS if path.stem == "production-values")
    text = helm("template", "hg", str(CHART), "--values", str(production), "--namespace", namespace)
    custom = [document for document in yaml.safe_load_all(text) if document and document["kind"] in OTHERS]
    assert {document["kind"] for document in custom} == OTHERS
    for document in custom:
        command = ("apply", "--namespace", namespace, "--dry-run=server", "--validate=strict", "--filename", "-")
        kubectl(*command, given=json.dumps(document))


@pytest.mark.parametrize(("what", "manifest", "words"), REFUSED, ids=[what for what, *_ in REFUSED])
def test_a_wrong_manifest_is_refused(
    crds: bool, namespace: str, what: str, manifest: dict[str, Any], words: str
) -> None:
    command = ("apply", "--namespace", namespace, "--dry-run=server", "--validate=strict", "--filename", "-")
    status, text = _kubectl(*command, given=json.dumps(manifest))
    assert status != 0 and words in text, f"{what}: {text}"


@pytest.fixture
def kafka(nodes: str, namespace: str) -> str:
    """A Kafka that pods of the namespace reach."""
    if nodes != "real":
        pytest.skip("simulated nodes run nothing")
    given = os.environ.get("HEADGATE_TEST_KAFKA_CLUSTER")
    if given:
        return given
    kubectl("apply", "--namespace", namespace, "--filename", str(KAFKA))
    kubectl("rollout", "status", "--namespace", namespace, "deployment/kafka", "--timeout=180s")
    return "kafka:9092"


@pytest.fixture
def release(namespace: str, kafka: str) -> Callable[..., str]:
    """helm with the values of a small real deployment."""
    values = (
        f"kafka.bootstrap={kafka},kafka.shards=8,auth.existingSecret=headgate-auth,"
        "ingest.resources.requests.cpu=50m,dispatcher.resources.requests.cpu=50m,gateway.resources.requests.cpu=50m"
    )
    extra = os.environ.get("HEADGATE_TEST_VALUES", "")
    before = os.environ.get("HEADGATE_TEST_BEFORE", str(CHART)), os.environ.get("HEADGATE_TEST_VALUES_BEFORE", extra)

    def call(verb: str, *more: str) -> str:
        folder, given = before if verb == "install" else (str(CHART), extra)
        chart = (folder, "--set", f"{values},{given}".rstrip(",")) if verb in ("install", "upgrade") else ()
        return helm(verb, "hg", *chart, "--namespace", namespace, *more, timeout_s=700)

    return call


def service(namespace: str, role: str) -> str:
    """The URL of a Service by its address: names of the cluster are not this machine's."""
    found = json.loads(kubectl("get", "--namespace", namespace, "service", f"hg-headgate-{role}", "--output", "json"))
    return f"http://{found['spec']['clusterIP']}:{found['spec']['ports'][0]['port']}"


def token(sub: str) -> str:
    return mint(TokenKey(SECRET), Caller(sub, service=True, admin=True), now_s=time.time(), ttl_s=7_200.0)


def pods(namespace: str) -> set[str]:
    found = json.loads(kubectl("get", "pods", "--namespace", namespace, "--output", "json"))["items"]
    roles = [p for p in found if p["metadata"]["labels"].get("app.kubernetes.io/component") in ROLES]
    return {p["metadata"]["uid"] for p in roles}


async def test_a_rolling_upgrade_and_a_rollback_lose_nothing(release: Callable[..., str], namespace: str) -> None:
    began = time.monotonic()
    release("install", "--wait", "--timeout", "300s")
    installed = time.monotonic() - began
    made = kubectl("logs", "--namespace", namespace, "job/hg-headgate-init")
    assert "headgate.messages" in made and "created" in made, made
    tested = release("test", "--logs")
    assert "publish, subscribe and history work" in tested
    first = pods(namespace)
    url, stream_url = service(namespace, "ingest"), service(namespace, "gateway")
    async with Traffic(url, stream_url, token, topics=10, listeners=CLIENTS, pause_s=0.2) as traffic:
        await traffic.more(200)
        rolled = await _meanwhile(
            traffic, lambda: release("upgrade", "--wait", "--timeout", "600s", "--set", "podLabels.turn=two")
        )
        await until("every pod is another", lambda: not first & pods(namespace), 90, poll_s=1.0)
        second = pods(namespace)
        back = await _meanwhile(traffic, lambda: release("rollback", "1", "--wait", "--timeout", "600s"))
        await until("every pod is another again", lambda: not second & pods(namespace), 90, poll_s=1.0)
        await traffic.more(100)
        told = await traffic.check()
    print(f"installed in {installed:.0f} s, upgraded in {rolled:.0f} s, rolled back in {back:.0f} s: {told}")


async def _meanwhile(traffic: Traffic, work: Callable[[], str]) -> float:
    """Runs something slow while the traffic goes on, and insists that it does go on; returns the seconds."""
    before, began = traffic.published, time.monotonic()
    await asyncio.to_thread(work)
    took = time.monotonic() - began
    assert traffic.published > before
    await until("the publishers go on", lambda: traffic.published > before + 50, 60)
    return took
