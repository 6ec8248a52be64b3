"""Tracing spans from events: one for each try, for any tracer."""

from collections.abc import Callable

import msgspec

from headgate.core.delivery.lifecycle_events import Event
from headgate.core.wire.event_names import EventName


class Span(msgspec.Struct, frozen=True):
    """One try. Times are seconds on the broker's clock; `trace` is the W3C traceparent of the publisher, if any."""

    name: str
    trace: str | None
    topic: str
    message_id: int | str | None
    subscriber: str
    attempt: int
    start: float
    end: float
    error: str | None


class Spans:
    """A listener that calls `export` with the span of each finished try: `broker.add_listener(Spans(export))`."""

    def __init__(self, export: Callable[[Span], object]) -> None:
        self._export = export
        self._started: dict[tuple[str, str], float] = {}  # a subscriber has one try at a time

    def __call__(self, event: Event) -> None:
        """Notes the start of a try, and exports its span when it ends."""
        if event.subscriber is None:
            return
        at = (event.topic, event.subscriber)
        if event.event is EventName.DELIVERING:
            self._started[at] = event.at
        elif event.event in (EventName.DELIVERED, EventName.FAILED) and at in self._started:
            self._export(
                Span(
                    name=f"deliver {event.topic} to {event.subscriber}",
                    trace=event.trace,
                    topic=event.topic,
                    message_id=event.id,
                    subscriber=event.subscriber,
                    attempt=event.attempts,
                    start=self._started.pop(at),
                    end=event.at,
                    error=event.error,
                )
            )
