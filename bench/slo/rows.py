"""The service levels: what each asks for, which run measures it, and what a run found."""

from pathlib import Path
from typing import Final, NamedTuple

import msgspec

PAGES: Final = Path(__file__).parents[2] / "docs" / "project"


class ServiceLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of docs/project/requirements.md: the run that measures it, and which of its figures.

    `limit` is in `unit`; `at_least` says on which side of it a figure is good. A figure of a run whose `--scale` is
    below `min_scale` is not written: a small run must not say that a large target is met.
    """

    row: str
    target: str
    run: str
    figure: str
    limit: float
    unit: str
    at_least: bool = False
    min_scale: float = 1.0


class Found(NamedTuple):
    """A figure of a run, and at which scale."""

    figure: str
    value: float
    scale: str


LEVELS: Final = msgspec.json.decode((PAGES / "slo_levels.json").read_bytes(), type=tuple[ServiceLevel, ...])


def is_met(level: ServiceLevel, figure: float) -> bool:
    """Says whether a figure is good enough."""
    return figure >= level.limit if level.at_least else figure < level.limit


def min_scale_of(figure: str, run: str) -> float:
    """Returns the smallest `--scale` at which a figure may be written.

    A figure without a row of its own is an input of a sum: it counts from the smallest scale of its run's rows.
    """
    own = [level.min_scale for level in LEVELS if level.figure == figure]
    return max(own) if own else min((level.min_scale for level in LEVELS if level.run == run), default=1.0)
