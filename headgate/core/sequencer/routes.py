"""The routes of a shard: which gateways host which topics, and the next batch of messages for each.

A route is in step (live messages are appended to its open batch) or behind (it is served from history until it has
caught up). A gateway is any hashable object: it is only compared.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from headgate.core.sequencer.effects import Deliver
from headgate.core.wire.link import Messages

G = TypeVar("G")


class Route(Generic[G]):
    """One topic on one gateway: `count` subscriptions there, and `sent`, the last seq that the gateway was sent."""

    __slots__ = ("behind", "count", "epoch", "gateway", "open", "sent", "topic_id")

    def __init__(self, gateway: G, topic_id: str, epoch: int, sent: int, count: int) -> None:
        self.gateway = gateway
        self.topic_id = topic_id
        self.epoch = epoch
        self.sent = sent
        self.count = count
        self.behind = False
        self.open: Messages | None = None


class Routes(Generic[G]):
    """The routes of one shard."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[G, Route[G]]] = {}
        self._gateways: dict[G, dict[str, Route[G]]] = {}
        self._open: list[Route[G]] = []

    def add(self, gateway: G, topic_id: str, epoch: int, sent: int, count: int = 1) -> Route[G]:
        """Adds `count` subscriptions; a new route begins above the seq `sent`, an existing one keeps its own."""
        routes = self._topics.setdefault(topic_id, {})
        route = routes.get(gateway)
        if route is None:
            route = routes[gateway] = Route(gateway, topic_id, epoch, sent, 0)
            self._gateways.setdefault(gateway, {})[topic_id] = route
        route.count += count
        return route

    def get(self, gateway: G, topic_id: str) -> Route[G] | None:
        """Returns the route, None where the gateway does not host the topic."""
        return self._gateways.get(gateway, {}).get(topic_id)

    def leave(self, gateway: G, topic_id: str, epoch: int, count: int) -> None:
        """Subtracts `count` subscriptions; at zero the route is removed. Ignores another epoch than the route's."""
        route = self.get(gateway, topic_id)
        if route is None or route.epoch != epoch:
            return
        route.count -= count
        if route.count <= 0:
            self._remove(route)

    def drop_gateway(self, gateway: G) -> None:
        """Removes all routes of a gateway."""
        for route in self._gateways.pop(gateway, {}).values():
            self._remove(route)

    def drop_topic(self, topic_id: str) -> list[G]:
        """Removes all routes of a topic; returns the gateways that hosted it."""
        routes = self._topics.get(topic_id, {})
        gateways = list(routes)
        for route in list(routes.values()):
            self._remove(route)
        return gateways

    def drop(self, gateway: G, topic_id: str) -> None:
        """Removes the route of a topic to one gateway, if there is one."""
        route = self.get(gateway, topic_id)
        if route is not None:
            self._remove(route)

    def _remove(self, route: Route[G]) -> None:
        route.open = None
        of_topic = self._topics.get(route.topic_id, {})
        of_topic.pop(route.gateway, None)
        if not of_topic:
            self._topics.pop(route.topic_id, None)
        self._gateways.get(route.gateway, {}).pop(route.topic_id, None)

    def count(self, topic_id: str) -> int:
        """Returns the number of subscriptions to a topic on all gateways."""
        count = 0
        for route in self.hosts(topic_id):  # a few gateways: a generator for `sum` would cost more than all of them
            count += route.count
        return count

    def hosts(self, topic_id: str) -> Iterable[Route[G]]:
        """Returns the routes of a topic."""
        return self._topics.get(topic_id, {}).values()

    def push(self, message: Deliver) -> None:
        """Adds a message to the open batch of each gateway that hosts the topic and is in step."""
        routes = self._topics.get(message.topic_id)
        if routes is None:
            return
        seq = message.seq
        for route in routes.values():
            if route.behind or seq <= route.sent:
                continue
            batch = route.open
            if batch is None:
                batch = route.open = Messages(message.topic_id, message.epoch, seq, [], [])
                self._open.append(route)
            batch.ts.append(message.ts)
            batch.frames.append(message.frame)
            route.sent = seq

    def trace(self, message: Deliver, context: bytes) -> None:
        """Has the trace context of a message that was pushed go with it, where it is in an open batch."""
        for route in self.hosts(message.topic_id):
            if route.open is not None and route.sent == message.seq:
                route.open.traces = {**(route.open.traces or {}), message.seq: context}

    def take(self) -> list[tuple[G, Messages]]:
        """Closes and returns the open batches, in the order in which they were begun."""
        batches = [(route.gateway, route.open) for route in self._open if route.open is not None]
        for route in self._open:
            route.open = None
        self._open.clear()
        return batches
