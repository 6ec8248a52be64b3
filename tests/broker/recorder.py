"""Subscribers and listeners that note what they get, and a handler that fails a number of times."""

from collections.abc import Callable

from headgate.broker import (
    Event,
    EventName,
    Message,
)


def failing(times: int) -> Callable[[Message], None]:
    left = [times]

    def handle(message: Message) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise ValueError("not now")

    return handle


class Recorder:
    """A subscriber, and a listener."""

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.messages: list[Message] = []
        self.events: list[Event] = []

    def handle(self, message: Message) -> None:
        self.messages.append(message)

    def hear(self, event: Event) -> None:
        self.events.append(event)

    @property
    def payloads(self) -> list[object]:
        return [message.payload for message in self.messages]

    def of(self, name: EventName, subscriber: str | None = None) -> list[Event]:
        return [e for e in self.events if e.event is name and subscriber in (None, e.subscriber)]
