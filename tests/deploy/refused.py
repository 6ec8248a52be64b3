"""Manifests that a real API server must refuse, each with words of its answer; know no cluster."""

from typing import Any, Final

_META: Final = {"name": "refused"}
_LABELS: Final = {"matchLabels": {"app": "x"}}


def _pod(**container: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "x", "image": "x", **container}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _META, "spec": spec}


def _of(api: str, kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": _META, "spec": spec}


_KAFKA: Final = {"name": "refused", "labels": {"strimzi.io/cluster": "x"}}

REFUSED: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("a port above 65535", _pod(ports=[{"containerPort": 808_000}]), "between 1 and 65535"),
    ("a misspelt field", _pod(securityContext={"readOnlyRootFileSystem": True}), "readOnlyRootFileSystem"),
    ("a raised privilege", _pod(securityContext={"allowPrivilegeEscalation": True}), "violates PodSecurity"),
    ("a pod that says nothing of its rights", _pod(), "violates PodSecurity"),
    ("an added capability", _pod(securityContext={"capabilities": {"add": ["NET_ADMIN"]}}), "violates PodSecurity"),
    (
        "two kinds of a budget",
        _of("policy/v1", "PodDisruptionBudget", minAvailable=1, maxUnavailable=1, selector=_LABELS),
        "minAvailable and maxUnavailable cannot be both set",
    ),
    (
        "a policy with a port of 0",
        _of("networking.k8s.io/v1", "NetworkPolicy", podSelector=_LABELS, egress=[{"ports": [{"port": 0}]}]),
        "between 1 and 65535",
    ),
    (
        "a scaler with more at least than at most",
        _of(
            "autoscaling/v2", "HorizontalPodAutoscaler", minReplicas=5, maxReplicas=2,
            scaleTargetRef={"kind": "Deployment", "name": "x", "apiVersion": "apps/v1"},
        ),
        "maxReplicas",
    ),
    (
        "an Ingress without a path type",
        _of(
            "networking.k8s.io/v1", "Ingress",
            rules=[{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "x", "port": {"number": 1}}}}]}}],
        ),
        "pathType",
    ),
    (
        "an HTTPRoute with an unknown kind of path",
        _of("gateway.networking.k8s.io/v1", "HTTPRoute",
            rules=[{"matches": [{"path": {"type": "Glob", "value": "/"}}]}]),
        "Unsupported value",
    ),
    ("a ScaledObject that scales nothing", _of("keda.sh/v1alpha1", "ScaledObject", triggers=[]), "scaleTargetRef"),
    ("a PodMonitor of no pods", _of("monitoring.coreos.com/v1", "PodMonitor", podMetricsEndpoints=[]), "selector"),
    (
        "a rule without an expression",
        _of("monitoring.coreos.com/v1", "PrometheusRule", groups=[{"name": "x", "rules": [{"alert": "X"}]}]),
        "expr",
    ),
    (
        "a KafkaTopic without partitions",
        _of("kafka.strimzi.io/v1", "KafkaTopic", partitions=0, replicas=1) | {"metadata": _KAFKA},
        "greater than or equal to 1",
    ),
    (
        "a KafkaUser with an unknown right",
        _of("kafka.strimzi.io/v1", "KafkaUser", authorization={
            "type": "simple", "acls": [{"resource": {"type": "topic", "name": "x"}, "operations": ["Own"]}],
        }) | {"metadata": _KAFKA},
        "Unsupported value",
    ),
)  # fmt: skip
