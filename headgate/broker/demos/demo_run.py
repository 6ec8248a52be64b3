"""One run of a demonstration: it makes the broker, and shows its events and the narration."""

from collections.abc import Callable
from typing import Any, Unpack

import msgspec

from headgate.broker.base_broker import TopicOptions
from headgate.broker.broker import Broker, reset_default_broker
from headgate.broker.message import Message
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.wire.errors import Refusal


class DemoRun:
    """Calls `show` with each event and summary, as an object with the member `demo`, and `tell` with the narration."""

    def __init__(self, demo: str, show: Callable[[dict[str, Any]], None], tell: Callable[[str], None]) -> None:
        self._demo = demo
        self._show = show
        self.say = tell

    def open(self, **settings: Unpack[TopicOptions]) -> Broker:
        """Returns a new default broker whose events are shown."""
        broker = reset_default_broker(**settings)
        broker.add_listener(self._event)
        return broker

    def handler(self, name: str, fails: int = 0) -> Callable[[Message], None]:
        """Returns a handler that raises `fails` times and then tells each message that it gets."""
        left = fails

        def handle(message: Message) -> None:
            nonlocal left
            if left > 0:
                left -= 1
                raise ConnectionError(f"{name} cannot reach its database")
            self.say(f"{name} has {message.payload}")

        handle.__name__ = name
        return handle

    def publish(self, broker: Broker, topic: str, payload: Any) -> None:
        """Publishes, and tells when that is refused."""
        try:
            broker.publish(topic, payload)
        except Refusal as refusal:
            self.say(f"refused: {refusal.detail} (HTTP would say {refusal.status})")

    def summary(self, broker: Broker) -> None:
        """Shows the figures of every topic."""
        for metrics in broker.summary():
            self._show({"demo": self._demo, "summary": msgspec.to_builtins(metrics)})

    def _event(self, event: Event) -> None:
        line: dict[str, Any] = msgspec.to_builtins(event)
        name = line.pop("event")
        self._show({"event": name, "demo": self._demo} | line)
