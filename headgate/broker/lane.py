"""One subscriber's queue, its order and the try that is under way; knows no other subscriber and no clock."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from headgate.broker.message import Entry, Message
from headgate.broker.subscriber import Subscriber
from headgate.core.breaker import Breaker
from headgate.core.delivery import Delivery, Status
from headgate.core.timers import Timer

if TYPE_CHECKING:
    from headgate.broker.group import Group
    from headgate.broker.topic import Topic


class Attempt:
    """One try: what to hand to `subscriber.handle`, and what the broker must know when it is over."""

    __slots__ = ("delivery", "entry", "lane", "message", "started")

    def __init__(self, lane: "Lane", entry: Entry, delivery: Delivery, started: float) -> None:
        self.lane = lane
        self.entry = entry
        self.delivery = delivery
        self.started = started
        self.message = Message(
            id=entry.id,
            topic=lane.topic.name,
            payload=entry.payload,
            status=delivery.status,
            attempts=delivery.attempts,
            created_ts=entry.created_ts,
            last_ts=started,
            key=entry.key,
            trace=entry.trace,
        )


class Lane:
    """The entries a subscriber has still to get, oldest first; only the first is ever tried, so a retry holds the rest.

    An entry in `queue` is QUEUED; the first one gets a `delivery` of its own when its turn comes. `after` is the newest
    message id from before the subscription: only later ones come here.
    """

    __slots__ = (
        "after",
        "attempt",
        "breaker",
        "closed",
        "delivery",
        "group",
        "paused",
        "queue",
        "subscriber",
        "timer",
        "topic",
        "waiting",
    )

    def __init__(self, topic: "Topic", subscriber: Subscriber, after: int, breaker: Breaker | None) -> None:
        self.topic = topic
        self.subscriber = subscriber
        self.after = after
        self.breaker = breaker
        self.group: Group | None = None
        self.queue: deque[Entry] = deque()
        self.delivery: Delivery | None = None
        self.attempt: Attempt | None = None
        self.timer: Timer[Callable[[float], None]] | None = None  # of the scheduled retry
        self.paused = False  # pulled by hand
        self.closed = False  # unsubscribed while a try was under way
        self.waiting = False  # stands in the runner's line

    @property
    def name(self) -> str:
        """The subscriber's name."""
        return self.subscriber.name

    @property
    def startable(self) -> bool:
        """Whether its first entry may be tried now."""
        if not self.queue or (self.breaker is not None and not self.breaker.allows):
            return False
        return self.delivery is None or self.delivery.status is Status.QUEUED

    def pick(self, entry: Entry) -> "Lane":
        """Returns the lane that gets this entry: itself."""
        return self

    def add(self, entry: Entry) -> None:
        """Puts an entry at the end."""
        self.queue.append(entry)
        entry.pending += 1

    def merge(self, entries: Iterable[Entry]) -> None:
        """Takes over another lane's entries in order of their ids, behind the one that is being worked on."""
        head = [self.queue.popleft()] if self.delivery is not None else []
        self.queue = deque(head + sorted([*self.queue, *entries], key=lambda entry: entry.id))

    def finish_first(self) -> Entry:
        """Takes the first entry out: it was delivered, given up or dropped."""
        self.delivery = None
        return self.queue.popleft()

    def empty(self) -> list[Entry]:
        """Takes all entries out but one that is being tried this moment, and returns them."""
        keep = [self.queue.popleft()] if self.attempt is not None else []
        if not keep:
            self.delivery = None
        entries = list(self.queue)
        self.queue = deque(keep)
        return entries
