"""The newest messages of a shard, in memory until they are in its index file.

Offsets rise, and the seqs of a topic follow each other without a gap, so a topic's messages are found by counting.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from headgate.core.sequencer.effects import Deliver
from headgate.core.wire.amended_frames import frame_members
from headgate.core.wire.envelope import REPLY
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_bytes
from headgate.core.wire.message_changes import MessageChange

ITEM_BITS: Final = 10


class RecentMessage(NamedTuple):
    """An accepted message: `pos` is offset << ITEM_BITS | item of its record, `ts` its append time (Unix ms).

    `change` is what an event does, None for a message; `parent` is the id of the message that it replies to, or b"".
    """

    pos: int
    epoch: int
    seq: int
    id: bytes
    ts: int
    frame: bytes
    change: MessageChange | None = None
    parent: bytes = b""


def recent_of(offset: int, message: Deliver, change: MessageChange | None = None) -> RecentMessage:
    """Returns a message, or an event with its change, of the record at an offset."""
    pos = offset << ITEM_BITS | message.item
    kept = RecentMessage(pos, message.epoch, message.seq, message.id, message.ts, message.frame, change)
    return kept._replace(parent=parent_of(message.frame)) if message.flags & REPLY else kept


def parent_of(frame: bytes) -> bytes:
    """Returns the id of the message that a reply's frame names; b"" where a record written by hand names none."""
    try:
        return id_bytes(frame_members(frame).get("parent_message_id", b"").decode().strip('"'))
    except (Refusal, UnicodeDecodeError):
        return b""


class Recent:
    """Entries in log order, oldest first. `start` is the offset from which on every accepted message is here."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start  # the offset up to which records were taken
        self.bytes = 0
        self._entries: deque[RecentMessage] = deque()
        self._topics: dict[int, deque[RecentMessage]] = {}
        self._ids: dict[bytes, RecentMessage] = {}  # of an id that came again the newest
        self._changes: dict[tuple[int, int], deque[RecentMessage]] = {}  # events by epoch and seq of their message

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: RecentMessage) -> None:
        """Takes the next message."""
        self._entries.append(entry)
        topic = self._topics.get(entry.epoch)
        if topic is None:
            topic = self._topics[entry.epoch] = deque()
        topic.append(entry)
        self._ids[entry.id] = entry
        if entry.change is not None:
            self._changes.setdefault((entry.epoch, entry.change.target_seq), deque()).append(entry)
        self.bytes += len(entry.frame)

    def oldest(self, most: int, max_bytes: int) -> tuple[list[RecentMessage], int]:
        """Returns the oldest messages within both bounds, whole records (one at least), and the offset they end at."""
        some: list[RecentMessage] = []
        size = 0
        for entry in self._entries:
            full = len(some) >= most or size >= max_bytes
            if full and entry.pos >> ITEM_BITS != some[-1].pos >> ITEM_BITS:
                return some, entry.pos >> ITEM_BITS
            some.append(entry)
            size += len(entry.frame)
        return some, self.end

    def drop(self, count: int, start: int) -> None:
        """Forgets the `count` oldest; what is below the offset `start` is no longer here."""
        for _ in range(count):
            entry = self._entries.popleft()
            topic = self._topics[entry.epoch]
            topic.popleft()
            if not topic:
                del self._topics[entry.epoch]
            if self._ids.get(entry.id) is entry:  # else it came again after the window forgot it
                del self._ids[entry.id]
            if entry.change is not None:
                self._forget_change((entry.epoch, entry.change.target_seq))
            self.bytes -= len(entry.frame)
        self.start = start

    def _forget_change(self, target: tuple[int, int]) -> None:
        events = self._changes[target]
        events.popleft()
        if not events:
            del self._changes[target]

    def first(self, epoch: int) -> int | None:
        """Returns the oldest seq of a topic that is here, None where there is none."""
        topic = self._topics.get(epoch)
        return topic[0].seq if topic else None

    def has(self, epoch: int, seq: int) -> bool:
        """Returns whether a message is here."""
        topic = self._topics.get(epoch)
        return topic is not None and topic[0].seq <= seq <= topic[-1].seq

    def following(self, epoch: int, seq: int) -> Iterator[RecentMessage]:
        """Returns a topic's messages from the seq on, which is here."""
        topic = self._topics.get(epoch)
        return islice(topic, seq - topic[0].seq, None) if topic else iter(())

    def seq_of(self, record_id: bytes, epoch: int) -> int | None:
        """Returns the seq a message id was given, None where it is not here."""
        found = self._ids.get(record_id)
        return found.seq if found is not None and found.epoch == epoch else None

    def place_of(self, record_id: bytes) -> tuple[int, int] | None:
        """Returns (epoch, seq) of a message id, None where it is not here."""
        found = self._ids.get(record_id)
        return None if found is None else (found.epoch, found.seq)

    def get(self, epoch: int, seq: int) -> RecentMessage | None:
        """Returns a message, None where it is not here."""
        topic = self._topics.get(epoch)
        return topic[seq - topic[0].seq] if topic is not None and topic[0].seq <= seq <= topic[-1].seq else None

    def changes(self) -> list[RecentMessage]:
        """Returns the events of all topics, oldest first."""
        return [e for e in self._entries if e.change is not None]

    def changes_of(self, epoch: int, seq: int) -> Sequence[RecentMessage]:
        """Returns the events of one message, oldest first."""
        return self._changes.get((epoch, seq), ())

    def seq_at(self, epoch: int, ts: int, first: int) -> int | None:
        """Returns the first seq from `first` on whose append time is not below `ts` (ms)."""
        return next((e.seq for e in self._topics.get(epoch, ()) if e.seq >= first and e.ts >= ts), None)

    def at_offset(self, offset: int) -> list[RecentMessage]:
        """Returns the messages a record brought."""
        return [e for e in self._entries if e.pos >> ITEM_BITS == offset]
