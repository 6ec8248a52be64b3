"""Who watches the lifecycle events of one shard: the gateways are told what is wanted, the ingests get what happens."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from dispatcher.shard import Destination, ShardOwner
from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_events import EventsHappened, WatchEvents

SEND_S: Final = 0.1
LINK_VERSION: Final = 2  # the lowest of a gateway that knows events


class EventWatchers:
    """Soft state of one shard that is served here.

    A link that takes no more live messages gets no events either; they are counted, and the count is sent later.
    """

    def __init__(self, owner: ShardOwner) -> None:
        self._owner = owner
        self._watchers: dict[Destination, EventFilter] = {}
        self._gateways: dict[Destination, None] = {}
        self._lost: dict[Destination, int] = {}  # events that a watcher was not sent, and was not told of
        self._wanted: EventFilter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.handlers: Mapping[type, Callable[..., None]] = {WatchEvents: self._watch, EventsHappened: self._pass_on}

    def attached(self, peer: Destination) -> None:
        """A gateway announces what it hosts."""
        if peer.version >= LINK_VERSION:
            self._gateways[peer] = None
            if self._wanted is not None:
                peer.send(WatchEvents(self._owner.number, self._wanted))

    def left(self, peer: Destination) -> None:
        """A link has ended."""
        self._gateways.pop(peer, None)
        self._lost.pop(peer, None)
        if self._watchers.pop(peer, None) is not None:
            self._merge()

    def close(self) -> None:
        """The shard is no longer served here."""
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self, peer: Destination, message: WatchEvents) -> None:
        if message.wanted is None:
            self._watchers.pop(peer, None)
            self._lost.pop(peer, None)
        else:
            self._watchers[peer] = message.wanted
        self._merge()

    def _merge(self) -> None:
        """What is wanted now differs from what was: the gateways and the owner learn it."""
        wanted: EventFilter | None = None
        for one in self._watchers.values():
            wanted = one if wanted is None else wanted.merged(one)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._owner.events.watch(self._owner.number, wanted)
        for gateway in self._gateways:
            gateway.send(WatchEvents(self._owner.number, wanted))
        if wanted is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SEND_S, self._send)

    def _send(self) -> None:
        self._timer = None
        if self._wanted is None:
            return
        self._timer = asyncio.get_running_loop().call_later(SEND_S, self._send)
        self._tell_own()

    def _pass_on(self, peer: Destination, batch: EventsHappened) -> None:
        """Sends on what a gateway tells, behind the owner's own: a message is numbered before it is delivered."""
        self._tell_own()
        self._tell(batch)

    def _tell_own(self) -> None:
        for batch in self._owner.events.take():
            self._tell(batch)

    def _tell(self, batch: EventsHappened) -> None:
        for watcher, wanted in self._watchers.items():
            events = [event for event in batch.events if wanted.takes(event.topic_id, event.event)]
            dropped = self._lost.pop(watcher, 0) + batch.dropped
            if watcher.congested:
                self._lost[watcher] = dropped + len(events)
            elif events or dropped:
                watcher.send(EventsHappened(batch.shard, events, dropped))
