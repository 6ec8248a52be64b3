"""The span `sequence` of a record that carries a trace context, and the context for the gateways behind it."""

from typing import Generic, TypeVar

from headgate.core.sequencer.apply import Applied
from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.routes import Routes
from headgate.core.wire.ids import id_text
from headgate.core.wire.records import Record
from headgate.core.wire.trace_context import sampled
from headgate.runtime.tracing import Attributes, Tracing

G = TypeVar("G")


class RecordTraces(Generic[G]):
    """Makes the spans of one shard. Without `tracing` it does nothing with a context."""

    def __init__(self, tracing: Tracing | None, routes: Routes[G], shard: int) -> None:
        self._tracing = tracing
        self._routes = routes
        self._shard = shard

    def applied(self, record: Record, applied: Applied) -> None:
        """Takes a record whose messages were put into the batches for the gateways.

        The span begins at the record's append time, so it shows how long the record waited to be numbered. A record of
        many messages has one span, with the number of the last.
        """
        context = sampled(record.trace) if record.trace else None
        if self._tracing is None or context is None:
            return
        delivered = [effect for effect in applied.effects if type(effect) is Deliver]
        if not delivered:
            return
        last = delivered[-1]
        about: Attributes = {
            "headgate.topic_id": last.topic_id,
            "headgate.shard": self._shard,
            "headgate.seq": last.seq,
            "headgate.message_id": id_text(last.id),
            "headgate.messages": len(delivered),
            "messaging.kafka.offset": record.offset,
        }
        span = self._tracing.begin("sequence", context, about, at_ms=record.ts)
        if span is not None:
            self._routes.trace(last, span.context)
            span.end()
