"""The production values leave no role on one pod, one node or one zone."""

from pathlib import Path
from typing import Any, Final

from tests.deploy.places import CHART, ROLES
from tests.deploy.rendered import chart, pod_spec, workloads

PRODUCTION: Final = CHART / "ci" / "production-values.yaml"
SCALERS: Final = ("HorizontalPodAutoscaler", "ScaledObject")
LEAST: Final = 2


def test_no_role_of_production_stands_on_one_pod_or_one_node(helm: Path) -> None:
    """Two pods at least, one of them away at a time, spread over nodes and zones."""
    rendered = chart(helm, PRODUCTION)
    fewest = {d["spec"]["scaleTargetRef"]["name"]: _fewest(d) for d in rendered if d["kind"] in SCALERS}
    for role in ROLES:
        workload = workloads(rendered)[role]
        pods = workload["spec"].get("replicas", fewest.get(workload["metadata"]["name"], 0))
        assert pods >= LEAST, f"{role} has {pods} pods"
        selector = workload["spec"]["selector"]["matchLabels"]
        (budget,) = [
            d["spec"] for d in rendered
            if d["kind"] == "PodDisruptionBudget" and d["spec"]["selector"]["matchLabels"] == selector
        ]  # fmt: skip
        assert budget["maxUnavailable"] == 1 < pods
        spread = {each["topologyKey"]: each for each in pod_spec(workload)["topologySpreadConstraints"]}
        assert set(spread) == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for each in spread.values():
            assert each["maxSkew"] == 1 and each["labelSelector"]["matchLabels"] == selector


def _fewest(scaler: dict[str, Any]) -> int:
    return int(scaler["spec"].get("minReplicas") or scaler["spec"].get("minReplicaCount") or 0)
