"""Lanes: the queue of one subscriber, and the group whose members share a topic's messages."""

from collections import deque
from collections.abc import Callable, Iterable

from headgate.broker.message import Message, QueuedMessage
from headgate.broker.subscriber import Subscriber
from headgate.core.delivery.breaker import Breaker
from headgate.core.delivery.delivery import Delivery, Status
from headgate.core.delivery.timers import Timer
from headgate.core.wire.ids import murmur2


class Attempt:
    """One try: the `message` for `lane.subscriber.handle`, and the state that is needed when it ends."""

    __slots__ = ("delivery", "entry", "lane", "message", "started")

    def __init__(self, lane: "Lane", entry: QueuedMessage, delivery: Delivery, started: float) -> None:
        self.lane = lane
        self.entry = entry
        self.delivery = delivery
        self.started = started
        self.message = Message(
            id=entry.id,
            topic=lane.topic,
            payload=entry.payload,
            status=delivery.status,
            attempts=delivery.attempts,
            created_ts=entry.created_ts,
            last_ts=started,
            key=entry.key,
            trace=entry.trace,
        )


class Lane:
    """The messages that a subscriber has still to get, oldest first. Only the first is tried: its retry holds the rest.

    A message in `queue` is QUEUED; the first one gets a `delivery` when its turn comes. `after` is the newest message
    id from before the subscription: only later messages come here. `topic` is a name.
    """

    __slots__ = (
        "after",
        "attempt",
        "breaker",
        "closed",
        "delivery",
        "group",
        "in_line",
        "paused",
        "queue",
        "subscriber",
        "timer",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        subscriber: Subscriber,
        after: int,
        breaker: Breaker | None,
        *,
        group: "ConsumerGroup | None" = None,
        paused: bool = False,
    ) -> None:
        self.topic = topic
        self.subscriber = subscriber
        self.after = after
        self.breaker = breaker
        self.group = group
        self.paused = paused  # its subscriber pulls: the broker starts no try
        self.queue: deque[QueuedMessage] = deque()
        self.delivery: Delivery | None = None
        self.attempt: Attempt | None = None
        self.timer: Timer[Callable[[float], None]] | None = None  # of the scheduled retry
        self.closed = False  # unsubscribed during a try
        self.in_line = False  # already in the line of lanes that wait for their turn

    @property
    def name(self) -> str:
        """The subscriber's name."""
        return self.subscriber.name

    @property
    def startable(self) -> bool:
        """Whether its first message may be tried now."""
        if not self.queue or (self.breaker is not None and not self.breaker.allows):
            return False
        return self.delivery is None or self.delivery.status is Status.QUEUED

    def pick(self, entry: QueuedMessage) -> "Lane":
        """Returns the lane that gets this message: itself. (A group picks a member.)"""
        return self

    def add(self, entry: QueuedMessage) -> None:
        """Adds a message at the end."""
        self.queue.append(entry)
        entry.pending += 1

    def merge(self, entries: Iterable[QueuedMessage]) -> None:
        """Adds another lane's messages in order of their ids, behind the one that is being tried or retried."""
        head = [self.queue.popleft()] if self.delivery is not None else []
        self.queue = deque(head + sorted([*self.queue, *entries], key=lambda entry: entry.id))

    def remove_first(self) -> QueuedMessage:
        """Removes the first message: it was delivered, given up or evicted."""
        self.delivery = None
        return self.queue.popleft()

    def take_all(self) -> list[QueuedMessage]:
        """Removes all messages, except the one that is being tried now, and returns them."""
        keep = [self.queue.popleft()] if self.attempt is not None else []
        if not keep:
            self.delivery = None
        entries = list(self.queue)
        self.queue = deque(keep)
        return entries


class ConsumerGroup:
    """The members that share a topic's messages, in the order of joining.

    A message with a key goes to the member that still has messages of this key, else to the one with the highest hash
    of (key, name) (rendezvous hashing: a member that joins or leaves moves its own keys only). So messages of a key
    stay in order, also when members change. A message without a key goes to the member with the shortest queue.
    """

    __slots__ = ("_keys", "after", "members", "name")

    def __init__(self, name: str, after: int) -> None:
        self.name = name
        self.after = after
        self.members: list[Lane] = []
        self._keys: dict[str, tuple[Lane, int]] = {}  # key -> the member that holds its messages, and how many

    def pick(self, entry: QueuedMessage) -> Lane:
        """Returns the member that gets this message, and counts its key. There must be a member."""
        if entry.key is None:
            return min(self.members, key=lambda lane: len(lane.queue))
        lane, count = self._keys.get(entry.key) or (self._rank(entry.key), 0)
        self._keys[entry.key] = (lane, count + 1)
        return lane

    def forget(self, entry: QueuedMessage) -> None:
        """Counts one message of a key less: it left its member's queue."""
        if entry.key is None or entry.key not in self._keys:
            return
        lane, count = self._keys.pop(entry.key)
        if count > 1:
            self._keys[entry.key] = (lane, count - 1)

    def hand_over(self, entries: list[QueuedMessage]) -> list[Lane]:
        """Gives the messages of a member that left to the others; returns those that got some, in order of joining."""
        for entry in entries:
            self.forget(entry)
        shares: dict[str, list[QueuedMessage]] = {}
        for entry in entries:
            shares.setdefault(self.pick(entry).name, []).append(entry)
        receivers = [lane for lane in self.members if lane.name in shares]
        for lane in receivers:
            lane.merge(shares[lane.name])
        return receivers

    def _rank(self, key: str) -> Lane:
        return max(self.members, key=lambda lane: murmur2(f"{key}\0{lane.name}".encode()))
