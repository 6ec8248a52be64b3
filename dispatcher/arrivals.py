"""Topics that gateways have attached, and whose create records the owner has not read yet."""

from heapq import heappop, heappush
from typing import Generic, TypeVar

from headgate.core.wire.link import AttachTopic

G = TypeVar("G")


class Arrivals(Generic[G]):
    """Attached topics by the offset of their create record; subscriptions that end before are subtracted."""

    def __init__(self) -> None:
        self._topics: dict[G, dict[tuple[str, int], AttachTopic]] = {}
        self._due: list[tuple[int, int, G, tuple[str, int]]] = []
        self._count = 0  # orders those of one offset: gateways cannot be compared

    def expect(self, gateway: G, topic: AttachTopic, offset: int) -> None:
        """Adds a topic that is created at the offset. A second call for the topic replaces the first."""
        name = (topic.topic_id, topic.epoch)
        topics = self._topics.setdefault(gateway, {})
        if name not in topics:
            self._count += 1
            heappush(self._due, (offset, self._count, gateway, name))
        topics[name] = topic

    def leave(self, gateway: G, topic_id: str, epoch: int, count: int) -> bool:
        """Subtracts `count` subscriptions; returns whether the topic was expected."""
        topics = self._topics.get(gateway, {})
        topic = topics.get((topic_id, epoch))
        if topic is None:
            return False
        topic.count -= count
        if topic.count <= 0:
            del topics[topic_id, epoch]
        return True

    def left(self, gateway: G) -> None:
        """Forgets a gateway."""
        if self._topics.pop(gateway, None):
            self._due = [due for due in self._due if due[2] is not gateway]

    def due(self, next_offset: int) -> list[tuple[G, AttachTopic]]:
        """Removes and returns the topics created below the offset that still have subscriptions."""
        found: list[tuple[G, AttachTopic]] = []
        while self._due and self._due[0][0] < next_offset:
            _, _, gateway, name = heappop(self._due)
            topic = self._topics.get(gateway, {}).pop(name, None)
            if topic is not None:
                found.append((gateway, topic))
        return found
