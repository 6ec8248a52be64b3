"""Where the deployment's files are and what stands in them; knows no tool and no engine."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "helm" / "headgate"
VALUE_SETS: Final = tuple(sorted((CHART / "ci").glob("*.yaml")))
COMPOSE: Final = ROOT / "docker-compose.yml"
DOCKERFILE: Final = ROOT / "Dockerfile"
ROLES: Final = ("ingest", "dispatcher", "gateway")
BASE_IMAGE: Final = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)[0]


def documents(text: str) -> list[dict[str, Any]]:
    """Returns the YAML documents of a text."""
    return [document for document in yaml.safe_load_all(text) if document]


def images_of_compose() -> dict[str, str]:
    """Returns the images that are not ours, by service."""
    services = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return {name: service["image"] for name, service in services.items() if "build" not in service}
