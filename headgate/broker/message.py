"""Messages and receipts of the in-process broker."""

from typing import Any, NamedTuple, TypedDict

import msgspec

from headgate.core.delivery.delivery import Status


class Message(msgspec.Struct, frozen=True):
    """The argument of a handler: one message in one try for one subscriber.

    `id` is an integer: 1, 2, ... in its topic or, with a log, the offset there. `created_ts` and `last_ts` are the
    times of the publish and of this try, in seconds on the broker's clock. Other subscribers have their own `status`
    and `attempts`.
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
        """The time of the publish, in seconds on the broker's clock."""
        return self.created_ts


class Receipt(msgspec.Struct, frozen=True):
    """The result of a publish that was accepted. A refused publish raises Refusal instead.

    `delivered_to` counts the subscribers that will get the message (a group is one). Without any it is 0, `dropped` is
    true and the message never leaves CREATED. A `duplicate` has the id of the first message with its key (0 when only
    the key is remembered).
    """

    id: int
    topic: str
    status: Status
    delivered_to: int
    queue_length: int
    dropped: bool = False
    duplicate: bool = False


class PublishOptions(TypedDict, total=False):
    """The keyword arguments of every `publish`.

    `key`: messages with the same key stay in order within a group. `dedup_key`: a second message with the same one is a
    duplicate and is not queued. `trace`: a W3C traceparent, handed on to handlers and events.
    """

    key: str | None
    dedup_key: str | None
    trace: str | None


class NewMessage(NamedTuple):
    """A message as its publisher gives it; the fields behind `payload` are PublishOptions."""

    payload: Any
    key: str | None = None
    dedup_key: str | None = None
    trace: str | None = None


class QueuedMessage(msgspec.Struct, gc=False, eq=False):
    """A queued message: one object for all its subscribers. `pending` counts the subscribers' queues that hold it."""

    id: int
    payload: Any
    key: str | None
    created_ts: float
    trace: str | None
    pending: int = 0
