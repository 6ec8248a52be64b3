"""The span `deliver` of a traced message: from its arrival at the gateway to the end of the loop turn's writes."""

from headgate.core.wire.link import Messages
from headgate.core.wire.trace_context import sampled
from headgate.runtime.metrics import Metrics
from headgate.runtime.tracing import Attributes, TraceSpan, Tracing


class DeliveryTraces:
    """The spans that were begun and not yet ended, at most those of one loop turn."""

    def __init__(self, tracing: Tracing, metrics: Metrics) -> None:
        self._tracing = tracing
        self._metrics = metrics
        self._open: list[tuple[TraceSpan, int]] = []  # with the append time of the message

    def arrived(self, messages: Messages) -> None:
        """Begins a span for each context that came with the messages."""
        for seq, header in (messages.traces or {}).items():
            context, at = sampled(header), seq - messages.seq
            if context is None or not 0 <= at < len(messages.ts):
                continue
            about: Attributes = {"headgate.topic_id": messages.topic_id, "headgate.seq": seq}
            span = self._tracing.begin("deliver", context, about)
            if span is not None:
                self._open.append((span, messages.ts[at]))

    def flushed(self, wall_ms: int) -> None:
        """Ends the spans: what arrived was handed to the sockets, or waits for its slice of a large topic."""
        for span, ts in self._open:
            span.end()
            self._metrics.delivery_exemplar("durable", (wall_ms - ts) / 1000, span.trace_id)
        self._open.clear()
