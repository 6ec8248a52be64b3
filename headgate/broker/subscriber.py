"""Subscribers: objects with a name and `handle(message)`."""

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol

from headgate.broker.message import Message

Handler = Callable[[Message], Any]  # for AsyncBroker it may return an awaitable


class Subscriber(Protocol):
    """Handles messages. A try has failed when `handle` raises; a return value is ignored."""

    name: str

    def handle(self, message: Message) -> Any:
        """Handles one message. It may be called again with the same one, so it should be idempotent."""


class FunctionSubscriber:
    """A plain function as a subscriber."""

    __slots__ = ("handle", "name")

    def __init__(self, handle: Handler, name: str) -> None:
        self.handle = handle
        self.name = name


def as_subscriber(handler: "Handler | Subscriber", name: str | None = None) -> Subscriber:
    """Returns a subscriber for a function or an object with `handle`, under `name` or else its own name.

    Raises TypeError for anything else.
    """
    handle: Handler | None = getattr(handler, "handle", None)
    if handle is None:
        if not callable(handler):
            raise TypeError(f"a subscriber is a callable or has handle(message); this is {type(handler).__name__}")
        handle = handler
    own = getattr(handler, "name", None) or getattr(handler, "__name__", None)
    return FunctionSubscriber(handle, name or str(own or type(handler).__name__))


def idempotent(handler: Handler, remember: int = 10_000) -> Handler:
    """Returns a handler that calls `handler` with a message until that has succeeded, and ignores its repeats then.

    Delivery is at least once: after a crash between your work and the note that it is done, the message comes again.
    This keeps the newest `remember` pairs (topic, id) in memory. A handler that must survive a crash stores them with
    its own data. The handler may be plain or async; an awaitable is done when it has returned without raising.
    """
    done: OrderedDict[tuple[str, int], None] = OrderedDict()

    def note(message: Message) -> None:
        done[message.topic, message.id] = None
        if len(done) > remember:
            done.popitem(last=False)

    async def noted(message: Message, result: Any) -> Any:
        answer = await result
        note(message)
        return answer

    @wraps(handler)
    def handle(message: Message) -> Any:
        if (message.topic, message.id) in done:
            return None
        result = handler(message)
        if hasattr(result, "__await__"):
            return noted(message, result)
        note(message)
        return result

    return handle
