"""What a panel and a page of a dashboard are, as plain values."""

from dataclasses import dataclass
from typing import Final

WIDTH: Final = 24  # columns of a page
ROLE: Final = 'job="headgate"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries as (legend, PromQL), thresholds as (value, colour) from the first above 0."""

    title: str
    queries: tuple[tuple[str, str], ...]
    description: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    thresholds: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard: its rows from top to bottom, each a title and its panels from left to right."""

    name: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def stat(
    title: str, query: str, description: str, unit: str = "short", thresholds: tuple[tuple[float, str], ...] = ()
) -> Panel:
    """Returns a panel that shows the present value of one query."""
    return Panel(title, (("", query),), description, unit, "stat", 4, 4, thresholds)


def quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """Returns the queries of the 50th, 95th and 99th percentile of a histogram, for each value of the label `by`."""
    grouped = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (
            f"p{round(q * 100)}{legend}",
            f"histogram_quantile({q}, sum by ({grouped}) (rate({metric}_bucket[$__rate_interval])))",
        )
        for q in (0.5, 0.95, 0.99)
    )


def rates(metric: str, by: str, *, only_above_0: bool = False) -> tuple[tuple[str, str], ...]:
    """Returns the query of a counter's rate for each value of the label `by`."""
    query = f"sum by ({by}) (rate({metric}[$__rate_interval]))"
    return ((f"{{{{{by}}}}}", f"{query} > 0" if only_above_0 else query),)


def top_ten(metric: str, label: str) -> str:
    """Returns the query of the ten largest values; a shard that changes hands may be shown by two dispatchers."""
    return f"topk(10, max by ({label}) ({metric}))"
