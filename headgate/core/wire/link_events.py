"""Link messages about lifecycle events: who watches them, and what happened.

Watching is soft state of a shard's owner. An ingest tells each owner what it wants; the owner tells the gateways that
host topics of the shard; they send it their events, and it sends those and its own to the ingests. Nobody who is not
watched builds an event. Nothing is sent again: what is lost is said as a number.
"""

from typing import Final

from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_struct import LinkStruct

MAX_EVENTS: Final = 500  # that a process keeps between two batches: many gateways tell one owner
MAX_BYTES: Final = 256 * 1024  # of their data


class WatchEvents(LinkStruct, tag=140):
    """The sender wants these events of a shard's topics from now on; None: no longer any. No answer.

    From an ingest to the shard's owner, and from the owner to its gateways. It replaces the one before.
    """

    shard: int
    wanted: EventFilter | None = None


class HappenedEvent(LinkStruct):
    """An event: `data` is the JSON that clients get, a `headgate.core.delivery.lifecycle_events.Event`."""

    topic_id: str
    event: str
    data: bytes


class EventsHappened(LinkStruct, tag=141):
    """Events of one shard, in the order in which the sender saw them; behind them `dropped` others that did not fit.

    From a gateway to the shard's owner, and from the owner to the ingests that watch.
    """

    shard: int
    events: list[HappenedEvent]
    dropped: int = 0


EventAnnouncement = WatchEvents | EventsHappened  # of an ingest or gateway, and of the owner
