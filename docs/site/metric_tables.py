"""The table of metrics, from what a process renders at `/metrics`."""

from typing import Final

from prometheus_client.core import Metric

from docs.site.markdown import table
from headgate.runtime.metrics import ALL, SECONDS, Metrics, Part

ROLES: Final[tuple[Part, ...]] = ("ingest", "dispatcher", "gateway")
_OF_THE_BUCKET: Final = {"le"}


def metric_table() -> str:
    """Returns one row a family: its name, type, roles, labels with the values they begin with, and its meaning."""
    shown = {role: {family.name for family in Metrics({role}).collect()} for role in ROLES}
    rows = []
    for family in sorted(Metrics(ALL).collect(), key=lambda each: each.name):
        roles = [role for role in ROLES if family.name in shown[role]]
        name = f"`{family.name}{'_total' if family.type == 'counter' else ''}`"
        rows.append(
            (
                name,
                family.type,
                "all" if len(roles) == len(ROLES) else ", ".join(roles),
                _labels(family),
                family.documentation,
            )
        )
    buckets = ", ".join(map(str, SECONDS))
    return (
        table(("name", "type", "roles", "labels", "meaning"), rows)
        + f"\nBuckets of every histogram, in seconds: {buckets}.\n"
    )


def _labels(family: Metric) -> str:
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label not in _OF_THE_BUCKET and value not in values.setdefault(label, []):
                values[label].append(value)
    return "; ".join(f"`{label}`: {', '.join(f'`{value}`' for value in found)}" for label, found in values.items())
