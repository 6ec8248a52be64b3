"""The reference of metrics, from what a process renders at `/metrics`."""

from typing import Final

from prometheus_client.core import Metric

from headgate.runtime.metric_families import SECONDS
from headgate.runtime.metrics import ALL, Metrics, Part

ROLES: Final[tuple[Part, ...]] = ("ingest", "dispatcher", "gateway")
_OF_THE_BUCKET: Final = {"le"}


def metric_sections() -> str:
    """Returns one section a metric: its meaning, type, roles, and labels with the values they begin with."""
    shown = {role: {family.name for family in Metrics({role}).collect()} for role in ROLES}
    parts = []
    for family in sorted(Metrics(ALL).collect(), key=lambda each: each.name):
        roles = ", ".join(role for role in ROLES if family.name in shown[role])
        name = f"{family.name}{'_total' if family.type == 'counter' else ''}"
        facts = f"Type: {family.type}. Roles: {roles}. Labels: {_labels(family) or 'none'}."
        parts.append(f"## {name}\n\n{family.documentation}\n\n{facts}\n")
    buckets = ", ".join(map(str, SECONDS))
    return "\n".join([*parts, "## Buckets", "", f"The buckets of every histogram, in seconds: {buckets}.", ""])


def _labels(family: Metric) -> str:
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label not in _OF_THE_BUCKET and value not in values.setdefault(label, []):
                values[label].append(value)
    return "; ".join(f"`{label}` ({', '.join(f'`{value}`' for value in found)})" for label, found in values.items())
