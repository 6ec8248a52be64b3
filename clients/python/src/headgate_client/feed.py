"""What a subscription keeps: its topics with their places, and the bounded queue that its reader takes from."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from headgate_client.acks import Acks
from headgate_client.errors import ClientError
from headgate_client.frames import EVENTS, Event, Frame, Gap, Message, gap_of, recreated
from headgate_client.position import From, Position

AckMode = Literal["none", "manual", "auto"]
QUEUE_MESSAGES: Final = 1_000
QUEUE_BYTES: Final = 4 * 1024 * 1024
ITEM_BYTES: Final = 256  # counted to each item: an event without a text costs memory too

Item = Message | Event | ClientError


class Wish(NamedTuple):
    """How a topic is to be followed."""

    start: From = "live"
    ack: AckMode = "none"
    presence: bool | None = None
    device_id: str | None = None
    group: str | None = None
    events: bool = False  # whether the reader wants what is no message and no gap


class Queue:
    """Items in order. `is_full` is a verdict: whoever fills it stops reading the socket until half of it is gone."""

    def __init__(self, messages: int = QUEUE_MESSAGES, size: int = QUEUE_BYTES) -> None:
        """`size` is in bytes of frames. Raises ValueError for a bound below 1."""
        if messages < 1 or size < 1:
            raise ValueError("a queue holds at least one message and one byte")
        self._items: deque[tuple[Item, int]] = deque()
        self._bounds = (messages, size)
        self._bytes = 0
        self._arrived = asyncio.Event()
        self.is_full = False
        self.on_room: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item, size: int = 0) -> None:
        """Adds an item. It is added to a full queue too: the frame has been read."""
        self._items.append((item, size + ITEM_BYTES))
        self._bytes += size + ITEM_BYTES
        self.is_full = self.is_full or len(self._items) >= self._bounds[0] or self._bytes >= self._bounds[1]
        self._arrived.set()

    async def get(self) -> Item:
        """Waits for the next item and takes it."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item, size = self._items.popleft()
        self._bytes -= size
        if self.is_full and len(self._items) * 2 <= self._bounds[0] and self._bytes * 2 <= self._bounds[1]:
            self.is_full = False
            self.on_room()
        return item


class Feed:
    """One followed topic: turns its frames into items of the queue."""

    def __init__(self, topic_id: str, wish: Wish, queue: Queue) -> None:
        self.topic_id = topic_id
        self.wish = wish
        self.queue = queue
        self.position = Position(wish.start, at_cursor=wish.ack != "none")
        self.acks = None if wish.ack == "none" else Acks(shared=wish.group is not None)
        self.live = asyncio.Event()  # subscribed on the present connection
        self.ended = asyncio.Event()
        self.missed = 0  # messages that gaps named
        self._asked: int | None = None  # the id of the subscribe frame that is not answered

    def subscribe(self) -> Frame:
        """Returns the subscribe frame for the next connection."""
        frame: Frame = {"type": "subscribe", "topic_id": self.topic_id, "from": self.position.wanted()}
        if self.wish.ack != "none":
            frame["ack"] = True
        for name in ("presence", "device_id", "group"):
            if (value := getattr(self.wish, name)) is not None:
                frame[name] = value
        return frame

    @property
    def is_granted(self) -> bool:
        """Whether the server takes other frames of this topic now."""
        return self.live.is_set() and not self.ended.is_set()

    def asked(self, frame_id: int) -> None:
        """The subscribe frame was sent with this id."""
        self._asked = frame_id

    def is_refused_by(self, frame: Frame) -> bool:
        """Whether an `error` frame answers the subscribe frame, and not another frame of this topic."""
        return self._asked is not None and frame.get("id") == self._asked

    def take(self, frame: Frame, text: bytes) -> int | None:
        """Takes a frame of this topic. Returns a seq to acknowledge once more, None where there is none."""
        kind = frame["type"]
        if kind == "message":
            return self._message(frame, text)
        if kind == "gap":
            gap = gap_of(frame, self.position.epoch, text)
            self.position.passed(gap.to_seq)
            self._gap(gap)
        elif kind == "subscribed":
            return self._subscribed(frame, text)
        elif kind == "caught_up":
            self.position.passed(frame.get("seq"))
        self._event(frame, text)
        return None

    def end(self, error: ClientError | None = None) -> None:
        """Nothing comes any more. The reader gets the error behind what is queued; without one, the end."""
        if not self.ended.is_set():
            self.ended.set()
            self.live.set()
            self.queue.put(error or Closed(self.topic_id))

    def lost(self) -> None:
        """The connection is gone."""
        self._asked = None
        if not self.ended.is_set():
            self.live.clear()

    def _message(self, frame: Frame, text: bytes) -> int | None:
        seq, attempt = frame.get("seq"), frame.get("attempt")
        new = self.position.message(seq)
        if self.acks is not None and seq is not None:
            verdict = self.acks.arrived(seq, attempt, new=new)
            if verdict != "deliver":
                again: int | None = seq if self.wish.group else self.acks.repeated()
                return again if verdict == "settled" else None
        elif not new:
            return None
        self.queue.put(Message.of(frame, self.position.epoch, text), len(text))
        return None

    def _subscribed(self, frame: Frame, text: bytes) -> int | None:
        again = self.acks.reconnected() if self.acks is not None else None
        if self.position.subscribed(frame):
            again = None
            if self.acks is not None:
                self.acks.forget()
            self._gap(recreated(self.topic_id, frame, text))
        self._asked = None
        self.live.set()
        self._event(frame, text)
        return again

    def _gap(self, gap: Gap) -> None:
        self.missed += gap.count
        self.queue.put(gap, len(gap.text))

    def _event(self, frame: Frame, text: bytes) -> None:
        event = EVENTS.get(frame["type"])
        if event is not None and self.wish.events:
            self.queue.put(event(topic_id=self.topic_id, frame=frame, text=text), len(text))


class Closed(ClientError):
    """The reader's sign that a topic ended as it should; it is never raised."""


def wish_of(start: From, ack: bool | str, **more: Any) -> Wish:
    """Returns a wish; `ack` is True or "auto", "manual" or False. Raises ValueError."""
    modes: dict[bool | str, AckMode] = {True: "auto", "auto": "auto", "manual": "manual", False: "none"}
    if ack not in modes:
        raise ValueError(f"ack is {ack!r}, not True, False, 'auto' or 'manual'")
    return Wish(start, modes[ack], **more)
