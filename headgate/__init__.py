"""Headgate brings Kafka's events to people; this package knows no service by name."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.broker import AsyncBroker, Broker, Publisher, Subscriber

__version__ = "0.1.0"
__all__ = ["AsyncBroker", "Broker", "Publisher", "Subscriber", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads the in-process broker when it is first asked for (PEP 562), so that importing the core loads none of it."""
    if name in __all__:
        from headgate import broker  # noqa: PLC0415  the point of this function

        return getattr(broker, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
