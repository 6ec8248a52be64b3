"""Publisher: a facade for code that publishes to one topic and does nothing else."""

from typing import Any, Generic, Protocol, TypeVar, Unpack

from headgate.broker.message import PublishOptions

R_co = TypeVar("R_co", covariant=True)


class CanPublish(Protocol[R_co]):
    """The broker of a publisher: Broker returns a Receipt, AsyncBroker an awaitable of one."""

    def publish(self, topic: str, payload: Any, **options: Unpack[PublishOptions]) -> R_co:
        """Publishes a message to a topic."""


class Publisher(Generic[R_co]):
    """Publishes to one topic."""

    __slots__ = ("_broker", "topic")

    def __init__(self, broker: CanPublish[R_co], topic: str) -> None:
        self._broker = broker
        self.topic = topic

    def publish(self, payload: Any, **options: Unpack[PublishOptions]) -> R_co:
        """Does the same as the broker's `publish`, with the same options and errors."""
        return self._broker.publish(self.topic, payload, **options)
