"""What the chart and docker-compose.yml give each role, read from the rendered files; knows no test.

End-to-end tests take a role's environment from here, so that neither file can drift from the code.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.deploy.places import CHART, COMPOSE, documents
from tests.deploy.tools import run

Documents = list[dict[str, Any]]
COMPOSE_SECRETS = {"HEADGATE_SECRET": "callers-" * 4, "HEADGATE_CLUSTER_SECRET": "services" * 4}


class RenderFailed(AssertionError):
    """A file could not be rendered; the text is what the program wrote."""


def chart(helm: Path, values: Path | None, *arguments: str, release: str = "hg") -> Documents:
    """Returns the documents of the chart with a value set."""
    command: list[str | Path] = [helm, "template", release, CHART, "--namespace", "headgate", *arguments]
    status, text = run(*command, *(() if values is None else ("--values", values)))
    if status != 0:
        raise RenderFailed(text)
    return documents(text)


def compose_services(compose: Path, *profiles: str, secrets: dict[str, str] = COMPOSE_SECRETS) -> dict[str, Any]:
    """Returns the services of docker-compose.yml as the engine would be told."""
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    status, text = run(compose, "--file", COMPOSE, *chosen, "config", "--format", "json", environ=secrets)
    if status != 0:
        raise RenderFailed(text)
    services: dict[str, Any] = json.loads(text)["services"]
    return services


def workloads(rendered: Documents) -> dict[str, dict[str, Any]]:
    """Returns what runs pods, by component."""
    kinds = ("Deployment", "StatefulSet", "Job", "Pod")
    return {d["metadata"]["labels"]["app.kubernetes.io/component"]: d for d in rendered if d["kind"] in kinds}


def pod_spec(workload: dict[str, Any]) -> dict[str, Any]:
    """Returns the pod of a Deployment, StatefulSet, Job or Pod."""
    spec: dict[str, Any] = workload["spec"]
    return spec if workload["kind"] == "Pod" else spec["template"]["spec"]


def container(workload: dict[str, Any]) -> dict[str, Any]:
    """Returns the one container of a workload."""
    (only,) = pod_spec(workload)["containers"]
    return dict(only)


def chart_environment(workload: dict[str, Any], files: Path) -> dict[str, str]:
    """Returns a container's variables as the kubelet would set them.

    Files of secrets are written under `files`, where the variables then point to.
    """
    env: dict[str, str] = {}
    for entry in container(workload)["env"]:
        value = str(entry.get("value", "10.0.0.1"))  # what comes from a field is the pod's address
        for name, known in env.items():
            value = value.replace(f"$({name})", known)
        env[entry["name"]] = value
    for name, value in env.items():
        if value.startswith("/etc/headgate/"):
            assert any(value.startswith(f"{mount}/") for mount in mounts(workload)), f"{name}: nothing mounts {value}"
            file = files / value.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("0123456789abcdef" * 4, "utf-8")
            env[name] = str(file)
    return env


def mounts(workload: dict[str, Any]) -> Sequence[str]:
    """Returns the paths at which a container has volumes, each of which the pod has to declare."""
    volumes = {volume["name"] for volume in pod_spec(workload).get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
    mounted = container(workload).get("volumeMounts", [])
    assert {mount["name"] for mount in mounted} <= volumes
    return [str(mount["mountPath"]) for mount in mounted]
