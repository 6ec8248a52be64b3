"""Spans of sampled publishes, sent with OpenTelemetry (the extra `tracing`); nothing of it is imported while off.

A publisher decides: a publish is traced where its `traceparent` is sampled. The context goes with the record through
the log and with the message over the links (docs/how-to/tracing.md).
"""

import importlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal

from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.token_buckets import Rate, TokenBuckets
from headgate.core.wire.trace_context import ids_of, traceparent

HEADER: Final = "traceparent"  # of requests and of Kafka records
APPENDING: Final[ContextVar[bytes | None]] = ContextVar("appending", default=None)  # a log writes it beside a record
TRACING: Final[ContextVar[str]] = ContextVar("tracing", default="")  # the trace id, for log lines of this task

Name = Literal["publish", "append", "sequence", "deliver"]
Attributes = Mapping[str, str | int]  # only ids, counts and places: never what a caller proves himself with
_EXTRA: Final = "tracing.endpoint needs OpenTelemetry, which is not installed: pip install 'headgate[tracing]'"
_KINDS: Final[dict[Name, str]] = {
    "publish": "SERVER",
    "append": "PRODUCER",
    "sequence": "CONSUMER",
    "deliver": "INTERNAL",
}


class TracingMissing(HeadgateError):
    """Tracing is wanted and the extra is not installed; one line for a person, exit status 2."""


class TraceSpan:
    """A span that was begun. `context` is its `traceparent`, `trace_id` 32 hexadecimal digits."""

    __slots__ = ("_span", "context", "trace_id")

    def __init__(self, span: Any) -> None:
        self._span = span
        ids = span.get_span_context()
        self.context = traceparent(ids.trace_id, ids.span_id)
        self.trace_id = f"{ids.trace_id:032x}"

    def set(self, name: str, value: str | int) -> None:
        """Adds an attribute."""
        self._span.set_attribute(name, value)

    def fail(self, code: str) -> None:
        """Notes that it ended with an error of docs/reference/errors.md, or `internal`."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(importlib.import_module("opentelemetry.trace").StatusCode.ERROR)

    def end(self) -> None:
        """Ends the span now."""
        self._span.end()


class Tracing:
    """Makes the spans of one process, at most `per_s` a second (and as many at once); the others are left out."""

    def __init__(self, provider: Any, per_s: int, now: Callable[[], float]) -> None:
        """`provider` is an OpenTelemetry TracerProvider that has a span processor; `now` returns monotonic seconds."""
        self._api = importlib.import_module("opentelemetry.trace")
        self._provider = provider
        self._tracer = provider.get_tracer("headgate")
        self._rate = Rate(per_s, per_s)
        self._buckets = TokenBuckets(len(_KINDS))
        self._now = now

    def begin(self, name: Name, parent: bytes, attributes: Attributes, at_ms: int | None = None) -> TraceSpan | None:
        """Begins a span under `parent`, at `at_ms` (Unix) or now. Returns None above the rate."""
        now = self._now()
        if self._buckets.wait(name, self._rate, now):
            return None
        self._buckets.take(name, self._rate, now)
        api, (trace_id, span_id) = self._api, ids_of(parent)
        above = api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED))
        return TraceSpan(
            self._tracer.start_span(
                name,
                context=api.set_span_in_context(api.NonRecordingSpan(above)),
                kind=api.SpanKind[_KINDS[name]],
                attributes=dict(attributes),
                start_time=None if at_ms is None else at_ms * 1_000_000,
            )
        )

    def close(self) -> None:
        """Sends what waits, for a few seconds at most, and ends the thread of the exporter. It blocks."""
        self._provider.shutdown()


def tracing_to(endpoint: str | None, role: str, node: str, per_s: int, now: Callable[[], float]) -> Tracing | None:
    """Returns what sends spans to an OTLP endpoint over HTTP, None where there is none. Raises TracingMissing."""
    if endpoint is None:
        return None
    try:
        sdk, export = (importlib.import_module(f"opentelemetry.sdk.trace{part}") for part in ("", ".export"))
        resources = importlib.import_module("opentelemetry.sdk.resources")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise TracingMissing(_EXTRA) from error
    about = resources.Resource({"service.name": f"headgate-{role}", "service.instance.id": node})
    sampling = importlib.import_module("opentelemetry.sdk.trace.sampling")
    provider = sdk.TracerProvider(resource=about, sampler=sampling.ALWAYS_ON)
    exporter = otlp.OTLPSpanExporter(endpoint=endpoint, timeout=5)
    provider.add_span_processor(export.BatchSpanProcessor(exporter))  # in a thread; 2,048 spans wait, others are lost
    return Tracing(provider, per_s, now)
