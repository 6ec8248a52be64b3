"""Counters and histograms as plain numbers: no Prometheus object is made until somebody asks for them."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily, Metric

SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.5, 1.0, 2.0, 5.0, 10.0)

Labels = tuple[str, ...]


class CounterFamily:
    """A counter family; `start` are the label values that exist with 0 from the start. Without labels there is one."""

    def __init__(self, name: str, text: str, labels: Labels = (), start: Iterable[Labels] = ((),)) -> None:
        self._name, self._text, self._labels = name, text, labels
        self.values: dict[Labels, int] = dict.fromkeys(start, 0)

    def add(self, labels: Labels, count: int) -> None:
        """Adds to one of its values."""
        self.values[labels] = self.values.get(labels, 0) + count

    def family(self) -> Metric:
        """Returns it as it is now, for the text exposition."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class HistogramFamily:
    """A histogram family whose observations carry a weight."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Labels = (),
        start: Iterable[Labels] = ((),),
        bounds: tuple[float, ...] = SECONDS,
    ) -> None:
        self._name, self._text, self._labels, self._bounds = name, text, labels, bounds
        self._counts: dict[Labels, list[int]] = {labels: [0] * (len(bounds) + 1) for labels in start}
        self._sums: dict[Labels, float] = dict.fromkeys(self._counts, 0.0)
        self._exemplars: dict[Labels, dict[int, Exemplar]] = {}  # by bucket

    def observe(self, labels: Labels, count: int, seconds: float) -> None:
        """Counts `count` observations of `seconds`; below 0 counts as 0."""
        seconds = max(seconds, 0.0)
        self._counts[labels][bisect_left(self._bounds, seconds)] += count
        self._sums[labels] += seconds * count

    def exemplar(self, labels: Labels, seconds: float, trace_id: str) -> None:
        """Keeps the trace of one observation as the example of its bucket, in place of an earlier one."""
        seconds = max(seconds, 0.0)
        example = Exemplar({"trace_id": trace_id}, seconds)
        self._exemplars.setdefault(labels, {})[bisect_left(self._bounds, seconds)] = example

    def family(self) -> Metric:
        """Returns it as it is now, for the text exposition."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, counts in self._counts.items():
            buckets: list[Any] = list(self._cumulative(counts))
            for at, exemplar in self._exemplars.get(labels, {}).items():
                buckets[at] = (*buckets[at], exemplar)
            family.add_metric(labels, buckets, self._sums[labels])
        return family

    def _cumulative(self, counts: list[int]) -> Iterator[tuple[str, float]]:
        total = 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], counts, strict=True):
            total += count
            yield bound, float(total)
