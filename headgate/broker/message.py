"""What goes in and out of the broker: messages and receipts; knows neither queues nor subscribers."""

from typing import Any, NamedTuple

import msgspec

from headgate.core.delivery.delivery import Status


class Message(msgspec.Struct, frozen=True):
    """What a handler gets: a message as it stands for this subscriber and this try.

    `id` is an integer: 1, 2, ... in its topic or, with a log, the offset there. `created_ts` and `last_ts` are seconds
    on the broker's clock: of the publish, and of this try. Other subscribers have their own `status` and `attempts`.
    """

    id: int
    topic: str
    payload: Any
    status: Status
    attempts: int
    created_ts: float
    last_ts: float
    key: str | None = None
    trace: str | None = None

    @property
    def timestamp(self) -> float:
        """When it was published, in seconds on the broker's clock."""
        return self.created_ts


class Receipt(msgspec.Struct, frozen=True):
    """What a publisher gets for a message that was taken. A refused publish raises Refusal instead.

    `delivered_to` counts the subscribers it goes to (a group is one). With nobody there it is 0, `dropped` is true and
    the message never leaves CREATED. A `duplicate` names the id of the first one (0 when only its key is remembered).
    """

    id: int
    topic: str
    status: Status
    delivered_to: int
    queue_length: int
    dropped: bool = False
    duplicate: bool = False


class Draft(NamedTuple):
    """What a publisher gives. `trace` is a W3C traceparent and only handed on."""

    payload: Any
    key: str | None = None
    dedup_key: str | None = None
    trace: str | None = None


class QueuedMessage(msgspec.Struct, gc=False, eq=False):
    """A queued message: one object however many subscribers wait for it. `pending` counts the queues it stands in."""

    id: int
    payload: Any
    key: str | None
    created_ts: float
    trace: str | None
    pending: int = 0
