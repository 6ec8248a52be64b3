"""The metrics of the protocol (docs/protocol.md, section 9) as plain numbers, rendered on request.

Counting is an addition to an integer: no Prometheus object is touched until somebody asks for `/metrics`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from headgate.core.wire.errors import CODES
from headgate.core.wire.event_names import EventName
from headgate.core.wire.verdict import Code
from headgate.runtime.canary_metrics import CanaryMetrics
from headgate.runtime.gauge_names import Gauge
from headgate.runtime.metric_families import CounterFamily, HistogramFamily, Labels
from headgate.runtime.refusals import RefusalLog
from headgate.runtime.top_metrics import TopMetrics

Part = Literal["ingest", "dispatcher", "gateway", "canary"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
ALL: Final[frozenset[Part]] = frozenset(("ingest", "dispatcher", "gateway", "canary"))
SERVICES: Final[frozenset[Part]] = frozenset(("ingest", "dispatcher", "gateway"))
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

SHARD_DEPTH: Final = "Messages that wait in the queues of a shard; a series for each shard served here."
READ: Final = "How long requests for history took, those too that nobody answered."
EVENTS: Final = "Events in the life of messages; `delivering` to `retry_scheduled` are of acknowledged subscriptions."


class Metrics(Collector):
    """All numbers of one process. `parts` decide which families are shown; the others are counted but not shown."""

    def __init__(self, parts: Set[Part] = ALL) -> None:
        profiles = _each(PROFILES)
        outcomes = [(outcome, profile) for outcome in OUTCOMES for profile in PROFILES]
        self._publishes = CounterFamily(
            "headgate_publishes_total", "Messages offered by publishers.", ("outcome", "profile"), outcomes
        )
        self._appends = CounterFamily("headgate_appends_total", "Records the log acknowledged.")
        self._append_seconds = HistogramFamily(
            "headgate_append_seconds", "From hand-over to the log to the acknowledgement, or to the wait's end."
        )
        self._sequenced = CounterFamily(
            "headgate_sequenced_total", "Messages decided by the owner.", ("verdict",), _each(VERDICTS)
        )
        self._links = CounterFamily(
            "headgate_link_messages_total", "Messages on links between services.", ("direction",), _each(DIRECTIONS)
        )
        self._deliveries = CounterFamily(
            "headgate_deliveries_total", "Message frames handed to sockets.", ("profile",), profiles
        )
        self._delivery_seconds = HistogramFamily(
            "headgate_delivery_seconds", "From the record's append time to the write.", ("profile",), profiles
        )
        self._events = CounterFamily("headgate_lifecycle_events_total", EVENTS, ("event",), _each((*EventName,)))
        self._redeliveries = CounterFamily("headgate_redeliveries_total", "Message frames sent again.")
        self._flush_slices, self._sweeps = _sweep_histograms()
        self._gaps, self._missed = _gap_counters()
        self._dead_letters, self._letters_evicted = _dead_letter_counters()
        self._snapshot_failures = CounterFamily(
            "headgate_snapshot_failures_total",
            "Snapshots that were not written.",
            ("reason",),
            _each(SNAPSHOT_FAILURES),
        )
        self._slices = HistogramFamily(
            "headgate_slice_seconds", "How long one slice of background work held the loop.", ("work",), _each(WORKS)
        )
        self._refusals = CounterFamily(
            "headgate_refusals_total",
            "Requests, frames and links that were refused, by code.",
            ("code",),
            _each((*CODES,)),
        )
        self._refusal_log = RefusalLog(time.monotonic)
        self._disagreements, self._pointers = _owner_counters()
        self._inbox_applied, self._inbox_skipped, self._inbox_hints = _inbox_counters()
        self._read_seconds = HistogramFamily("headgate_read_seconds", READ)
        self.canary = CanaryMetrics()
        self.top = TopMetrics()
        self._gauges: dict[Gauge, Callable[[], float]] = {}
        self._reads: Callable[[], Mapping[str, int]] = dict
        self._depths: Callable[[], Mapping[int, int]] = dict
        self._parts = parts
        self.has_exemplars = False  # while the process makes spans
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

    def unacknowledged(self, seconds: float) -> None:
        """Counts the time of a record whose acknowledgement was waited for in vain for `seconds`."""
        self._append_seconds.observe((), 1, seconds)

    def append_exemplar(self, seconds: float, trace_id: str) -> None:
        """Names the trace of a record that the log acknowledged after `seconds`."""
        self._append_seconds.exemplar((), seconds, trace_id)

    def delivery_exemplar(self, profile: str, seconds: float, trace_id: str) -> None:
        """Names the trace of a message that was written `seconds` after its append."""
        self._delivery_seconds.exemplar((profile,), seconds, trace_id)

    def history_read(self, seconds: float) -> None:
        """Counts a request for history that ended after `seconds`, with a page or without."""
        self._read_seconds.observe((), 1, seconds)

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

    def sliced(self, seconds: float) -> None:
        """Counts one slice of the sweeps over large topics that held the loop for `seconds`."""
        self._flush_slices.observe((), 1, seconds)

    def swept(self, seconds: float) -> None:
        """Counts messages that all subscribers of a large topic had `seconds` after the record's append."""
        self._sweeps.observe((), 1, seconds)

    def lifecycle_events(self, name: str, count: int) -> None:
        """Counts events in the life of messages; `name` is one of `EventName`."""
        self._events.add((name,), count)

    def redelivered(self, count: int) -> None:
        """Counts message frames that an acknowledged subscription was sent again."""
        self._redeliveries.add((), count)

    def gap(self, reason: str, count: int, *, missed: bool) -> None:
        """Counts messages that a gap frame named. `missed`: durable ones that it would have got, had all been well."""
        self._gaps.add((reason,), count)
        if missed:
            self._missed.add((), count)

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

    def inbox_applied(self) -> None:
        """Counts a record of the inbox log that was applied."""
        self._inbox_applied.add((), 1)

    def inbox_hints(self, count: int) -> None:
        """Counts hints about new messages that connected users were sent."""
        self._inbox_hints.add((), count)

    def disagreed(self) -> None:
        """Counts a digest in which two nodes differ."""
        self._disagreements.add((), 1)

    def pointers(self, records: int) -> None:
        """Counts pointer bundles that are in the inbox log."""
        self._pointers.add((), records)

    def watch(self, name: Gauge, read: Callable[[], float]) -> None:
        """Sets where a gauge's value is read when somebody asks; until then it is 0."""
        self._gauges[name] = read

    def watch_reads(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Sets where the log adapter's count of records read, by log, comes from."""
        self._reads = read

    def watch_shards(self, read: Callable[[], Mapping[int, int]]) -> None:
        """Sets where the depth of each shard served here, by its number, is read."""
        self._depths = read

    def render(self) -> bytes:
        """Returns the text exposition (CONTENT_TYPE)."""
        return generate_latest(self._registry)

    def render_openmetrics(self) -> bytes:
        """Returns the exposition with exemplars (OPENMETRICS_TYPE), for a scraper that asks for OpenMetrics."""
        text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]  # it has no types
        return text

    def collect(self) -> Iterator[Metric]:
        """Yields every family that the parts of this process have; called by the registry."""
        yield self._gauge("loop_lag_seconds", "How late the event loop runs what is due.")
        yield self._gauge("ready", "1 while the process serves at least a part of its work, else 0.")
        yield self._gauge("memory_limit_bytes", "Memory that the process may use; 0 where nothing limits it.")
        if self._parts & SERVICES:
            yield from self._service()
        if "canary" in self._parts:
            yield from self.canary.families()
        if "ingest" in self._parts:
            yield self._publishes.family()
            yield self._gauge("queue_depth_max", "Messages that wait in the deepest queue of a topic.")
            yield self._gauge("circuits_open", "Shards whose part of the log does not answer: publishes are refused.")
            yield self._read_seconds.family()
        if self._parts & {"ingest", "dispatcher"}:
            yield self._appends.family()
            yield self._append_seconds.family()
        if self._parts & {"dispatcher", "gateway"}:
            yield self._events.family()
        if "dispatcher" in self._parts:
            yield from self._dispatcher()
        if "gateway" in self._parts:
            yield from self._gateway()

    def _service(self) -> Iterator[Metric]:
        yield self._links.family()
        yield self._refusals.family()
        if self._parts & {"ingest", "gateway"}:
            yield self._gauge("shards_without_owner", "Shards to whose owner there is no link.")

    def _dispatcher(self) -> Iterator[Metric]:
        yield self._sequenced.family()
        yield self._dead_letters.family()
        yield self._letters_evicted.family()
        yield self._gauge("dead_letters_open", "Dead letters of deliveries that wait for a person.")
        yield self._disagreements.family()
        yield from self._inbox()
        yield from self._heat()
        yield from self.top.families()
        yield self._gauge("log_lag_records", "Records in the log that are not yet applied.")
        yield self._gauge("shard_depth_max", "Messages that wait in the queues of one shard, the deepest served here.")
        depths = GaugeMetricFamily("headgate_shard_depth", SHARD_DEPTH, labels=("shard",))
        for shard, depth in sorted(self._depths().items()):
            depths.add_metric((str(shard),), depth)
        yield depths
        yield self._gauge("members_max", "Members of the topic that has the most of them, of the shards served here.")
        yield self._gauge("topics_large", "Topics with more than 5,000 members, of the shards served here.")
        yield self._gauge("load", "How much of the node's strength is in use: above 0.8 it sheds LOW messages.")
        yield self._gauge("snapshot_age_seconds", "How long the oldest change that no snapshot holds has waited.")
        yield self._gauge("window_ids", "Ids in the duplicate windows of the shards served here.")
        yield self._gauge("shards_without_index", "Shards served without their index file.")
        yield self._gauge("shards_history_incomplete", "Shards that cannot answer yet for all that the log holds.")
        yield self._snapshot_failures.family()
        yield self._slices.family()
        reads = CounterFamily("headgate_log_records_read_total", "Records read, by log.", ("log",), _each(LOGS_READ))
        for log, count in self._reads().items():
            reads.add((log,), count)
        yield reads.family()

    def _inbox(self) -> Iterator[Metric]:
        yield self._inbox_applied.family()
        yield self._inbox_skipped.family()
        yield self._inbox_hints.family()
        yield self._gauge("inbox_memberships", "Memberships of the users of the shards served here.")
        yield self._gauge("inbox_heads", "Topics whose head the owners of these users know.")
        yield self._gauge("inbox_marks", "Read marks of these users.")
        yield self._gauge("inbox_backlog_max", "The largest number of unread messages of one of these users.")

    def _heat(self) -> Iterator[Metric]:
        yield self._pointers.family()
        yield self._gauge("topics_direct", "Topics that are pushed directly: neither paced nor in the inbox.")
        yield self._gauge("topics_paced", "Topics that gateways write in slices, and that are not in the inbox.")
        yield self._gauge("topics_inbox", "Topics whose mode is inbox.")
        yield self._gauge("gateways_unreachable", "Gateways whose link was lost, or takes nothing, and is not back.")

    def _gateway(self) -> Iterator[Metric]:
        yield self._deliveries.family()
        yield self._delivery_seconds.family()
        yield self._flush_slices.family()
        yield self._sweeps.family()
        yield self._gauge("sweeps_running", "Large topics with messages on their way to their sockets.")
        yield self._redeliveries.family()
        yield self._gaps.family()
        yield self._missed.family()
        yield self._gauge("acked_subscriptions", "Subscriptions that acknowledge their messages.")
        yield self._gauge(
            "breakers_open", "Acknowledged subscriptions that get nothing now, because they kept failing."
        )
        yield self._gauge("sessions", "Client connections.")
        yield self._gauge("sessions_limit", "Client connections that the gateway takes at most.")
        yield self._gauge("subscriptions", "Subscriptions: session x topic.")

    def _gauge(self, name: Gauge, text: str) -> Metric:
        read = self._gauges.get(name)
        return GaugeMetricFamily(f"headgate_{name}", text, value=0.0 if read is None else read())


def _owner_counters() -> tuple[CounterFamily, CounterFamily]:
    differ = "Digests of a shard in which this node and another differ."
    bundles = "Records of the inbox log that say how far topics are, one a shard of users and flush."
    return (
        CounterFamily("headgate_disagreements_total", differ),
        CounterFamily("headgate_pointer_bundles_total", bundles),
    )


def _gap_counters() -> tuple[CounterFamily, CounterFamily]:
    missing = "Messages that a gap frame said are missing."
    missed = "Messages of durable topics that connected subscribers were not sent: they were too slow, or it is lost."
    return (
        CounterFamily("headgate_gap_messages_total", missing, ("reason",), _each(GAP_REASONS)),
        CounterFamily("headgate_missed_messages_total", missed),
    )


def _dead_letter_counters() -> tuple[CounterFamily, CounterFamily]:
    given_up = "Records and deliveries that were given up."
    made_room = "Open dead letters that made room for newer ones."
    return (
        CounterFamily("headgate_dead_letters_total", given_up, ("reason",), _each(DEAD_LETTER_REASONS)),
        CounterFamily("headgate_dead_letters_evicted_total", made_room),
    )


def _inbox_counters() -> tuple[CounterFamily, CounterFamily, CounterFamily]:
    return (
        CounterFamily("headgate_inbox_applied_total", "Records of the inbox log that were applied."),
        CounterFamily("headgate_inbox_skipped_total", "Records of the inbox log that could not be read."),
        CounterFamily("headgate_inbox_hints_total", "Hints about new messages that connected users were sent."),
    )


def _sweep_histograms() -> tuple[HistogramFamily, HistogramFamily]:
    slices = "How long one slice of the sweeps over large topics held the loop."
    sweeps = "From the record's append time to the write to the last socket of a large topic."
    return (
        HistogramFamily("headgate_flush_slice_seconds", slices),
        HistogramFamily("headgate_sweep_seconds", sweeps),
    )


def _each(values: tuple[str, ...]) -> list[Labels]:
    return [(value,) for value in values]
