"""The spans of publishes: `publish` from the request to its answer, and under it one `append` a record."""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

from headgate.core.wire.envelope import Kind, decode
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text
from headgate.core.wire.records import Appended
from headgate.core.wire.trace_context import sampled
from headgate.runtime.http.call import Call, Handler, Reply
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Clock
from headgate.runtime.tracing import APPENDING, TRACING, TraceSpan, Tracing
from ingest.ports import Appends

TRACED: Final = ("publish", "publish_batch", "publish_any_batch")  # names of handlers
_PUBLISH: Final[ContextVar[TraceSpan | None]] = ContextVar("publish", default=None)


def traced(handler: Handler, tracing: Tracing) -> Handler:
    """Returns the handler of a publish with a span around the calls whose `traceparent` is sampled."""

    async def answer(call: Call) -> Reply:
        parent = sampled(call.trace) if call.trace else None
        span = None if parent is None else tracing.begin("publish", parent, {})
        if span is None:
            return await handler(call)
        topic_id = call.path_parameters.get("topic_id")
        if topic_id:
            span.set("headgate.topic_id", topic_id[:128])
        return await _within(span, handler, call)

    return answer


async def _within(span: TraceSpan, handler: Handler, call: Call) -> Reply:
    own, of_task = _PUBLISH.set(span), TRACING.set(span.trace_id)
    try:
        reply = await handler(call)
        span.set("http.response.status_code", reply.status)
        return reply
    except Refusal as refusal:
        span.fail(refusal.code)
        raise
    except Exception:
        span.fail("internal")
        raise
    finally:
        _PUBLISH.reset(own)
        TRACING.reset(of_task)
        span.end()


class PublishTraces:
    """Puts the spans around the handlers and the appends of an ingest."""

    def __init__(self, tracing: Tracing, metrics: Metrics, clock: Clock) -> None:
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock

    def handlers(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """Returns the handlers, those of publishes with spans."""
        found = {name: traced(handlers[name], self._tracing) for name in TRACED}
        return {**handlers, **found}

    def appends(self, appends: Appends) -> "TracedAppends":
        """Returns the appends with spans."""
        return TracedAppends(appends, self._tracing, self._metrics, self._clock)


class TracedAppends:
    """Appends of ingest that give the records of a traced request their context."""

    def __init__(self, appends: Appends, tracing: Tracing, metrics: Metrics, clock: Clock) -> None:
        self._appends = appends
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock

    def append(self, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Hands a record over; see the port."""
        above = _PUBLISH.get()
        span = None if above is None else self._tracing.begin("append", above.context, {"headgate.shard": shard})
        if above is None or span is None:
            return self._appends.append(shard, key, value)
        record = decode(value or b"")
        span.set("headgate.messages", len(record.items))
        if record.kind == Kind.MESSAGE:
            span.set("headgate.message_id", id_text(record.id))
            above.set("headgate.message_id", id_text(record.id))
        began = self._clock.now()
        before = APPENDING.set(span.context)
        try:
            future = self._appends.append(shard, key, value)
        except BaseException as error:
            span.fail(type(error).__name__)
            span.end()
            raise
        finally:
            APPENDING.reset(before)

        def ended(done: "asyncio.Future[Appended]") -> None:
            if done.cancelled() or done.exception() is not None:
                span.fail("cancelled" if done.cancelled() else type(done.exception()).__name__)
            else:
                span.set("messaging.kafka.offset", done.result().offset)
                self._metrics.append_exemplar(self._clock.now() - began, span.trace_id)
            span.end()

        future.add_done_callback(ended)
        return future

    def open_shards(self) -> list[int]:
        """Returns the shards whose circuit is open."""
        return self._appends.open_shards()
