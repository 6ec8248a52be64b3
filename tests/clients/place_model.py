"""A server for the pure part of the Python client: places and windows are those of the real one. Frames wait until the
test delivers them, so a connection may be cut before each of them."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from headgate.core.delivery.ack_window import AckWindow
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.retry import fixed
from headgate.core.wire.position import CURSOR, Position, from_json, place
from headgate_client import Gap, Message
from headgate_client.feed import Feed, Queue, Wish
from headgate_client.frames import Frame
from headgate_client.subscription import HeldSubscription, Subscription

POLICY: Final = fixed(max_attempts=1_000, delay=1.0)
BREAKER: Final = BreakerPolicy(10_000)
RETRY_S: Final = 1.1
WINDOW: Final = 6


class Topic:
    """A durable topic: message `seq` of `epoch` has the payload (epoch, seq)."""

    def __init__(self) -> None:
        self.epoch = 7
        self.first = 1
        self.head = 0

    def recreate(self) -> None:
        self.epoch, self.first, self.head = self.epoch + 1, 1, 0


class Server:
    """The topic's owner, the gateway and the owner of the device's cursor. One connection at a time."""

    def __init__(self) -> None:
        self.topic = Topic()
        self.stored: tuple[int, int] | None = None  # the cursor: epoch, seq
        self.sending: deque[Frame] = deque()
        self.window: AckWindow | None = None
        self.next: int | None = None  # of a subscription without ack; None: there is none
        self.now = 0.0
        self.begin = 0  # the place behind which the present subscription began
        self._replay_to: int | None = None
        self.untold: set[tuple[int, int]] = set()  # expired above a place at 0, of which no gap is told

    @property
    def is_on(self) -> bool:
        """Whether there is a connection with a subscription."""
        return self.next is not None

    def take(self, frame: Frame) -> None:
        """Takes a frame of the client; without a connection it is lost."""
        if frame["type"] == "subscribe":
            self._subscribe(frame)
        elif self.window is not None and frame["type"] == "ack":
            self.window.ack(frame["seq"], self.now)
        elif self.window is not None and frame["type"] == "nack":
            self.window.nack(frame["seq"], "", self.now)
            self.sending.append({"type": "ok", "id": frame["id"]})

    def send(self) -> None:
        """Puts what may be sent now behind the frames that are on their way."""
        if self.next is None:
            return
        if self.window is None:
            for seq in range(self.next, self.topic.head + 1):
                self._message(seq, 1)
            self.next = self.topic.head + 1
        else:
            while (last := min(self.window.limit(self.now), self.topic.head)) >= self.window.next:
                for sending in self.window.send(last, self.now):
                    self._message(*sending)
            self.next = self.window.next
        if self._replay_to is not None and self.next > self._replay_to:
            self._replay_to = None
            self._say("caught_up", seq=self.next - 1)

    def wait(self) -> None:
        """The retry delay passes."""
        self.now += RETRY_S
        if self.window is not None:
            self.window.visit(self.now)
        self.send()

    def store(self) -> None:
        """The cursor reaches the log. It never goes back there."""
        if self.window is not None:
            self.move(self.window.acked)

    def move(self, seq: int) -> None:
        """Somebody says that this device has all up to `seq`."""
        self.stored = max(self.stored or (0, 0), (self.topic.epoch, seq))

    def cut(self) -> None:
        """The connection is gone, with what was on its way."""
        self.sending.clear()
        self.window = self.next = None

    def expire(self, count: int) -> None:
        """The oldest messages are kept no longer; only while nobody is connected."""
        self.topic.first = min(self.topic.first + count, self.topic.head + 1)

    def _subscribe(self, frame: Frame) -> None:
        topic = self.topic
        wanted = from_json(frame["from"])
        at_cursor = wanted is not None and wanted.form == CURSOR
        if at_cursor:
            wanted = None if self.stored is None else Position("seq", *self.stored)
        found = place(wanted, topic.epoch, topic.first, topic.head, lambda _: None)
        resumed, reason = found.resumed, found.reason
        if at_cursor and self.stored is None:
            resumed, reason = False, "no_cursor"
        more: dict[str, Any] = {} if resumed is None else {"resumed": resumed}
        if reason is not None:
            more["reason"] = reason
        self._say("subscribed", profile="durable", epoch=topic.epoch, seq=topic.head, first_seq=topic.first, **more)
        if reason == "expired" and wanted is not None:
            first, last = wanted.number + 1, topic.first - 1
            self._say("gap", from_seq=first, to_seq=last, count=last - first + 1, reason="retention")
        if reason is None and wanted is not None and not wanted.number:
            self.untold |= {(topic.epoch, seq) for seq in range(1, topic.first)}
        begin = self.begin = found.cursor
        self.next = begin + 1
        if frame.get("ack"):
            self.window = AckWindow(begin, POLICY, BREAKER, WINDOW)
        self._replay_to = None if frame["from"] == "live" else topic.head
        self.send()

    def _message(self, seq: int, attempt: int) -> None:
        more = {"attempt": attempt} if attempt > 1 else {}
        self._say("message", seq=seq, payload=[self.topic.epoch, seq], **more)

    def _say(self, kind: str, **fields: Any) -> None:
        self.sending.append({"type": kind, "topic_id": "a", **fields})


class Application:
    """The client's pure part, and what an application does with it. `take` of a test's server gets its frames."""

    def __init__(self, wish: Wish, take: Callable[[Frame], None]) -> None:
        self.wish = wish
        self.queue = Queue(100_000)
        self.feed = Feed("a", wish, self.queue)
        kind = HeldSubscription if wish.each else Subscription
        self.subscription = kind(self, [self.feed], self.queue, None, None)  # type: ignore[arg-type]
        self.hand: list[Message] = []
        self.done: set[tuple[int, int]] = set()  # epoch and seq
        self.refused: set[tuple[int, int]] = set()
        self.gaps: list[Gap] = []
        self._take = take
        self._on = False
        self._told: dict[int, Callable[[], None]] = {}  # what to do when the server has a frame
        self._number = 0

    def connect(self) -> None:
        self._on = True
        self._take(self.feed.subscribe())

    def cut(self) -> None:
        self._on = False
        self._told.clear()
        self.feed.lost()

    def receive(self, frame: Frame) -> None:
        """A frame arrives."""
        if frame["type"] == "ok":
            self._told.pop(frame["id"])()
            return
        for seq, order in self.feed.take(frame, b""):
            self.send({"type": "ack", "topic_id": "a", "seq": seq, "order": order})

    def read(self) -> bool:
        """The application takes the next item. Without ack it is done with it, else it has it in hand."""
        if not self.queue._items:
            return False
        item, _ = self.queue._items.popleft()
        if isinstance(item, Gap):
            self.gaps.append(item)
        elif isinstance(item, Message):
            self.subscription._handed_out(item)
            if self.wish.ack == "none":
                self._note(item)
            else:
                self.hand.append(item)
        return True

    def settle(self, at: int) -> None:
        """It does its work for a message in hand, and says so."""
        if self.hand:
            message = self.hand.pop(at % len(self.hand))
            self._note(message)
            self.subscription.ack(message)

    def refuse(self, at: int) -> None:
        """It cannot do its work for a message in hand."""
        if self.hand:
            message = self.hand.pop(at % len(self.hand))
            self.refused.add((message.epoch or 0, message.seq or 0))
            self.subscription.nack(message)

    def is_told(self, epoch: int, seq: int) -> bool:
        """Whether a gap names a message."""
        return any(gap.epoch == epoch and (gap.from_seq or 0) <= seq <= (gap.to_seq or 0) for gap in self.gaps)

    def _note(self, message: Message) -> None:
        assert message.seq is not None and message.epoch is not None
        assert message.payload == [message.epoch, message.seq]
        self.done.add((message.epoch, message.seq))

    # What the subscription needs of the connection

    def send(self, frame: Frame) -> bool:
        if self._on and self.feed.is_granted:
            self._take({name: value for name, value in frame.items() if name != "order"})
        return self._on

    def tell(self, frame: Frame, then: Callable[[], None]) -> None:
        if self._on and self.feed.is_granted:
            self._number += 1
            self._told[self._number] = then
            self._take({**frame, "id": self._number})

    def leave(self, feed: Feed) -> None:
        """The subscription is closed."""
