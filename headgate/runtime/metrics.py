"""The metrics of the protocol (docs/protocol.md, section 9) as plain numbers, rendered on request.

Counting is an addition to an integer: no Prometheus object is touched until somebody asks for `/metrics`.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from headgate.core.wire.errors import CODES
from headgate.core.wire.event_names import EventName
from headgate.core.wire.verdict import Code
from headgate.runtime.refusals import RefusalLog

Part = Literal["ingest", "dispatcher", "gateway"]
Gauge = Literal[
    "sessions",
    "subscriptions",
    "acked_subscriptions",
    "breakers_open",
    "log_lag_records",
    "load",
    "loop_lag_seconds",
    "snapshot_age_seconds",
    "window_ids",
    "shards_without_index",
    "shards_history_incomplete",
    "dead_letters_open",
    "queue_depth_max",
]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ALL: Final[frozenset[Part]] = frozenset(("ingest", "dispatcher", "gateway"))
PROFILES: Final = ("durable", "ephemeral")
OUTCOMES: Final = (  # a refusal counts under its code; those that are rarer than these appear when they happen
    *("accepted", "duplicate", "shed", "bad_request", "invalid_payload", "too_large", "topic_not_found", "forbidden"),
    *("idempotency_conflict", "rate_limited", "queue_full", "log_unavailable", "not_ready", "outcome_unknown"),
)
VERDICTS: Final = tuple(code.name.lower() for code in Code if code is not Code.UNKNOWN)
DIRECTIONS: Final = ("in", "out")
GAP_REASONS: Final = ("slow_consumer", "retention", "shed")
DEAD_LETTER_REASONS: Final = (
    *("null", "not_utf8", "not_json", "too_deep", "too_large", "corrupt", "config"),
    *("no_topic", "not_durable", "wrong_partition", "max_attempts"),
)
LOGS_READ: Final = ("messages", "messages-background", "snapshots", "snapshots-background")
SNAPSHOT_FAILURES: Final = ("too_large", "log", "content")
WORKS: Final = ("snapshot", "check", "restore", "index", "rebuild")
SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

EVENTS: Final = "Events in the life of messages; `delivering` to `retry_scheduled` are of acknowledged subscriptions."
Labels = tuple[str, ...]


class _Counter:
    """A counter family; `start` are the label values that exist with 0 from the start."""

    def __init__(self, name: str, text: str, labels: Labels, start: Iterable[Labels]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self.values: dict[Labels, int] = dict.fromkeys(start, 0)

    def add(self, labels: Labels, count: int) -> None:
        self.values[labels] = self.values.get(labels, 0) + count

    def family(self) -> Metric:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class _Histogram:
    """A histogram family whose observations carry a weight."""

    def __init__(self, name: str, text: str, labels: Labels, start: Iterable[Labels]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: dict[Labels, list[int]] = {labels: [0] * (len(SECONDS) + 1) for labels in start}
        self._sums: dict[Labels, float] = dict.fromkeys(self._counts, 0.0)

    def observe(self, labels: Labels, count: int, seconds: float) -> None:
        seconds = max(seconds, 0.0)
        self._counts[labels][bisect_left(SECONDS, seconds)] += count
        self._sums[labels] += seconds * count

    def family(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, counts in self._counts.items():
            family.add_metric(labels, list(_cumulative(counts)), self._sums[labels])
        return family


class Metrics(Collector):
    """All numbers of one process. `parts` decide which families are shown; the others are counted but not shown."""

    def __init__(self, parts: Set[Part] = ALL) -> None:
        profiles = _each(PROFILES)
        outcomes = [(outcome, profile) for outcome in OUTCOMES for profile in PROFILES]
        self._publishes = _Counter(
            "headgate_publishes_total", "Messages offered by publishers.", ("outcome", "profile"), outcomes
        )
        self._appends = _Counter("headgate_appends_total", "Records the log acknowledged.", (), [()])
        self._append_seconds = _Histogram(
            "headgate_append_seconds", "From hand-over to the log to its acknowledgement.", (), [()]
        )
        self._sequenced = _Counter(
            "headgate_sequenced_total", "Messages decided by the owner.", ("verdict",), _each(VERDICTS)
        )
        self._links = _Counter(
            "headgate_link_messages_total", "Messages on links between services.", ("direction",), _each(DIRECTIONS)
        )
        self._deliveries = _Counter(
            "headgate_deliveries_total", "Message frames handed to sockets.", ("profile",), profiles
        )
        self._delivery_seconds = _Histogram(
            "headgate_delivery_seconds", "From the record's append time to the write.", ("profile",), profiles
        )
        self._events = _Counter("headgate_lifecycle_events_total", EVENTS, ("event",), _each((*EventName,)))
        self._redeliveries = _Counter("headgate_redeliveries_total", "Message frames sent again.", (), [()])
        self._gaps = _Counter(
            "headgate_gap_messages_total",
            "Messages that a gap frame said are missing.",
            ("reason",),
            _each(GAP_REASONS),
        )
        self._dead_letters, self._letters_evicted = _dead_letter_counters()
        self._snapshot_failures = _Counter(
            "headgate_snapshot_failures_total",
            "Snapshots that were not written.",
            ("reason",),
            _each(SNAPSHOT_FAILURES),
        )
        self._slices = _Histogram(
            "headgate_slice_seconds", "How long one slice of background work held the loop.", ("work",), _each(WORKS)
        )
        self._refusals = _Counter(
            "headgate_refusals_total",
            "Requests, frames and links that were refused, by code.",
            ("code",),
            _each((*CODES,)),
        )
        self._refusal_log = RefusalLog(time.monotonic)
        self._inbox_skipped = _Counter(
            "headgate_inbox_skipped_total", "Records of the inbox log that could not be read.", (), [()]
        )
        self._disagreements = _Counter(
            "headgate_disagreements_total", "Digests of a shard in which this node and another differ.", (), [()]
        )
        self._gauges: dict[Gauge, Callable[[], float]] = {}
        self._reads: Callable[[], Mapping[str, int]] = dict
        self._parts = parts
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def publish(self, outcome: str, profile: str, count: int = 1) -> None:
        """Counts messages offered to ingest."""
        self._publishes.add((outcome, profile), count)

    def appended(self, count: int, seconds: float) -> None:
        """Counts records that the log acknowledged `seconds` after the hand-over."""
        self._appends.add((), count)
        self._append_seconds.observe((), count, seconds)

    def sequenced(self, verdict: str, count: int = 1) -> None:
        """Counts what `apply` decided, one a message."""
        self._sequenced.add((verdict,), count)

    def link_messages(self, direction: str, count: int = 1) -> None:
        """Counts messages that carry application messages over a link, `in` or `out`."""
        self._links.add((direction,), count)

    def delivered(self, profile: str, count: int, seconds: float) -> None:
        """Counts `count` message frames written `seconds` after the record's append (below 0 counts as 0)."""
        self._deliveries.add((profile,), count)
        self._delivery_seconds.observe((profile,), count, seconds)

    def lifecycle_events(self, name: str, count: int) -> None:
        """Counts events in the life of messages; `name` is one of `EventName`."""
        self._events.add((name,), count)

    def redelivered(self, count: int) -> None:
        """Counts message frames that an acknowledged subscription was sent again."""
        self._redeliveries.add((), count)

    def gap(self, reason: str, count: int) -> None:
        """Counts messages that a gap frame named."""
        self._gaps.add((reason,), count)

    def refused(self, code: str, detail: str) -> None:
        """Counts a refused request, frame or link; now and then one is a log line."""
        self._refusals.add((code,), 1)
        self._refusal_log.note(code, detail)

    def dead_letter(self, reason: str, count: int = 1) -> None:
        """Counts records and deliveries written to the dead letters."""
        self._dead_letters.add((reason,), count)

    def letters_evicted(self, count: int) -> None:
        """Counts open dead letters that had to make room for newer ones."""
        self._letters_evicted.add((), count)

    def snapshot_failed(self, reason: str) -> None:
        """Counts a snapshot that could not be written, or that differs when it is read back."""
        self._snapshot_failures.add((reason,), 1)

    def worked(self, work: str, seconds: float) -> None:
        """Counts one slice of background work that held the loop for `seconds`."""
        self._slices.observe((work,), 1, seconds)

    def inbox_skipped(self) -> None:
        """Counts a record of the inbox log that cannot be read."""
        self._inbox_skipped.add((), 1)

    def disagreed(self) -> None:
        """Counts a digest in which two nodes differ."""
        self._disagreements.add((), 1)

    def watch(self, name: Gauge, read: Callable[[], float]) -> None:
        """Sets where a gauge's value is read when somebody asks; until then it is 0."""
        self._gauges[name] = read

    def watch_reads(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Sets where the log adapter's count of records read, by log, comes from."""
        self._reads = read

    def render(self) -> bytes:
        """Returns the text exposition (CONTENT_TYPE)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yields every family that the parts of this process have; called by the registry."""
        yield self._links.family()
        yield self._gauge("loop_lag_seconds", "How late the event loop runs what is due.")
        yield self._refusals.family()
        if "ingest" in self._parts:
            yield self._publishes.family()
            yield self._gauge("queue_depth_max", "Messages that wait in the deepest queue of a topic.")
        if self._parts & {"ingest", "dispatcher"}:
            yield self._appends.family()
            yield self._append_seconds.family()
        if self._parts & {"dispatcher", "gateway"}:
            yield self._events.family()
        if "dispatcher" in self._parts:
            yield from self._dispatcher()
        if "gateway" in self._parts:
            yield from self._gateway()

    def _dispatcher(self) -> Iterator[Metric]:
        yield self._sequenced.family()
        yield self._dead_letters.family()
        yield self._letters_evicted.family()
        yield self._gauge("dead_letters_open", "Dead letters of deliveries that wait for a person.")
        yield self._disagreements.family()
        yield self._inbox_skipped.family()
        yield self._gauge("log_lag_records", "Records in the log that are not yet applied.")
        yield self._gauge("load", "How much of the node's strength is in use: above 0.8 it sheds LOW messages.")
        yield self._gauge("snapshot_age_seconds", "How long the oldest change that no snapshot holds has waited.")
        yield self._gauge("window_ids", "Ids in the duplicate windows of the shards served here.")
        yield self._gauge("shards_without_index", "Shards served without their index file.")
        yield self._gauge("shards_history_incomplete", "Shards that cannot answer yet for all that the log holds.")
        yield self._snapshot_failures.family()
        yield self._slices.family()
        reads = _Counter("headgate_log_records_read_total", "Records read, by log.", ("log",), _each(LOGS_READ))
        for log, count in self._reads().items():
            reads.add((log,), count)
        yield reads.family()

    def _gateway(self) -> Iterator[Metric]:
        yield self._deliveries.family()
        yield self._delivery_seconds.family()
        yield self._redeliveries.family()
        yield self._gaps.family()
        yield self._gauge("acked_subscriptions", "Subscriptions that acknowledge their messages.")
        yield self._gauge(
            "breakers_open", "Acknowledged subscriptions that get nothing now, because they kept failing."
        )
        yield self._gauge("sessions", "Client connections.")
        yield self._gauge("subscriptions", "Subscriptions: session x topic.")

    def _gauge(self, name: Gauge, text: str) -> Metric:
        read = self._gauges.get(name)
        return GaugeMetricFamily(f"headgate_{name}", text, value=0.0 if read is None else read())


def _dead_letter_counters() -> tuple[_Counter, _Counter]:
    given_up = "Records and deliveries that were given up."
    made_room = "Open dead letters that made room for newer ones."
    return (
        _Counter("headgate_dead_letters_total", given_up, ("reason",), _each(DEAD_LETTER_REASONS)),
        _Counter("headgate_dead_letters_evicted_total", made_room, (), [()]),
    )


def _each(values: tuple[str, ...]) -> list[Labels]:
    return [(value,) for value in values]


def _cumulative(counts: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip([*map(str, SECONDS), "+Inf"], counts, strict=True):
        total += count
        yield bound, float(total)
