"""Publisher: a facade for code that only publishes, to one topic; knows nothing else of the broker."""

from typing import Any, Generic, Protocol, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Publishes(Protocol[R_co]):
    """What a publisher needs of a broker: Broker gives a Receipt, AsyncBroker an awaitable of one."""

    def publish(
        self,
        topic: str,
        payload: Any,
        *,
        key: str | None = None,
        dedup_key: str | None = None,
        trace: str | None = None,
    ) -> R_co:
        """Publishes."""


class Publisher(Generic[R_co]):
    """Publishes to one topic."""

    __slots__ = ("_broker", "topic")

    def __init__(self, broker: Publishes[R_co], topic: str) -> None:
        self._broker = broker
        self.topic = topic

    def publish(
        self, payload: Any, *, key: str | None = None, dedup_key: str | None = None, trace: str | None = None
    ) -> R_co:
        """As the broker's `publish`, and raises as it does."""
        return self._broker.publish(self.topic, payload, key=key, dedup_key=dedup_key, trace=trace)
