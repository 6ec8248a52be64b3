"""What a subscription keeps: its topics with their places, and the bounded queue that its reader takes from."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

from headgate_client.acks import Acks, Due, GroupAcks
from headgate_client.errors import ClientError
from headgate_client.frames import EVENTS, Event, Frame, Gap, Message, gap_of, missing, restarted
from headgate_client.position import From, Position
from headgate_client.reconnection import Backoff

AckMode = Literal["none", "manual", "auto"]
QUEUE_MESSAGES: Final = 1_000
QUEUE_BYTES: Final = 4 * 1024 * 1024
ITEM_BYTES: Final = 256  # counted to each item: an event without a text costs memory too
AGAIN_S: Final = 1.0  # the least wait before a refused topic is asked for again, and the first window on top of it
_log = logging.getLogger("headgate_client")

Item = Message | Event | ClientError


class Wish(NamedTuple):
    """How a topic is to be followed."""

    start: From = "live"
    ack: AckMode = "none"
    presence: bool | None = None
    device_id: str | None = None
    group: str | None = None
    events: bool = False  # whether the reader wants what is no message and no gap
    each: bool = False  # with `ack`: the reader settles messages one by one, in any order


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
        self.position = Position(wish.start, acked=wish.ack != "none", shared=wish.group is not None)
        self.acks = _acks_of(wish)
        self.live = asyncio.Event()  # subscribed on the present connection
        self.ended = asyncio.Event()
        self.missed = 0  # messages that gaps named
        self._asked: int | None = None  # the id of the subscribe frame that is not answered
        self._backoff = Backoff(random.random, AGAIN_S)

    def subscribe(self) -> Frame:
        """Returns the subscribe frame for the next connection."""
        start = self.position.ask(None if self.acks is None else self.acks.repeated())
        frame: Frame = {"type": "subscribe", "topic_id": self.topic_id, "from": start}
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

    def again_in_s(self, at_least_ms: int | None) -> float:
        """The server refused the topic for now. Returns how long to wait before it is asked for again (s)."""
        return self._backoff.next_s(max(at_least_ms or 0, int(AGAIN_S * 1_000)))

    def take(self, frame: Frame, text: bytes) -> list[Due]:
        """Takes a frame of this topic. Returns what is to be acknowledged once more."""
        kind = frame["type"]
        if kind == "message":
            return self._message(frame, text)
        if kind == "gap":
            self._named_gap(gap_of(frame, self.position.epoch, text))
        elif kind == "subscribed":
            return self._subscribed(frame, text)
        elif kind == "caught_up":
            self._caught_up(frame.get("seq"))
        self._event(frame, text)
        return []

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

    def _message(self, frame: Frame, text: bytes) -> list[Due]:
        seq, attempt, acks = frame.get("seq"), frame.get("attempt"), self.acks
        replay = acks is not None and attempt == 1  # a dead letter with its old seq: it says nothing of the place
        if not replay:
            self._missing_before(seq)
        new = not replay and self.position.message(seq)
        if acks is not None and seq is not None:
            if acks.arrived(seq, attempt, new=new) != "deliver":
                self._is_late(seq, attempt)
                return acks.again(seq)
        elif not new:
            return []
        self.queue.put(Message.of(frame, self.position.epoch, text), len(text))
        return []

    def _is_late(self, seq: int, attempt: int | None) -> None:
        if self.wish.each and (attempt or 1) > 1 and self.acks is not None and self.acks.is_oldest(seq):
            _log.warning(
                "%s: message %d comes again as attempt %d while it is in hand: it takes longer than the topic's "
                "retry delay, and after max_attempts it is a dead letter", self.topic_id, seq, attempt,
            )  # fmt: skip

    def _subscribed(self, frame: Frame, text: bytes) -> list[Due]:
        self._backoff.reset()
        again = self.acks.reconnected() if self.acks is not None else []
        reason = self.position.subscribed(frame)
        if reason is not None:
            again = []
            if self.acks is not None:
                self.acks.forget()
            self._gap(restarted(self.topic_id, frame, reason, text))
        self._asked = None
        self.live.set()
        self._event(frame, text)
        return again

    def _caught_up(self, seq: Any) -> None:
        if isinstance(seq, int):
            self._missing_before(seq + 1)
        self.position.passed(seq)

    def _missing_before(self, seq: int | None) -> None:
        """Tells of messages that should have come before `seq`, and of which no gap told: they may have expired."""
        hole = self.position.missing(seq)
        if hole is not None:
            self._gap(missing(self.topic_id, *hole, self.position.epoch))

    def _named_gap(self, gap: Gap) -> None:
        """Takes a `gap` frame: the part of it that was told or delivered on an earlier connection is left out."""
        begin, first, last = self.position.seq, gap.from_seq, gap.to_seq
        self.position.passed(last)
        if begin is not None and first is not None and last is not None and first <= begin and self._has_all_to(begin):
            if last <= begin:
                return
            gap = replace(gap, from_seq=begin + 1, count=last - begin)
        self._gap(gap)

    def _has_all_to(self, seq: int) -> bool:
        """Whether everything up to `seq` was told or delivered, and none of it was to come again."""
        return self.wish.group is None and (self.acks is None or not self.acks.waits_for(seq))

    def _gap(self, gap: Gap) -> None:
        self.missed += gap.count
        self.queue.put(gap, len(gap.text))

    def _event(self, frame: Frame, text: bytes) -> None:
        event = EVENTS.get(frame["type"])
        if event is not None and self.wish.events:
            self.queue.put(event(topic_id=self.topic_id, frame=frame, text=text), len(text))


class Closed(ClientError):
    """The reader's sign that a topic ended as it should; it is never raised."""


def _acks_of(wish: Wish) -> Acks | None:
    if wish.ack == "none":
        return None
    return Acks(each=wish.each) if wish.group is None else GroupAcks(each=wish.each)


def wish_of(start: From, ack: bool | str, **more: Any) -> Wish:
    """Returns a wish; `ack` is True or "auto", "manual" or False. Raises ValueError."""
    modes: dict[bool | str, AckMode] = {True: "auto", "auto": "auto", "manual": "manual", False: "none"}
    if ack not in modes:
        raise ValueError(f"ack is {ack!r}, not True, False, 'auto' or 'manual'")
    return Wish(start, modes[ack], **more)
