"""The subscribers in step of a large or hot topic, in blocks. A block has one cursor: a sweep may stop behind it."""

import enum
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

S = TypeVar("S")
_Write = Callable[[bytes], None]


class Group(enum.IntEnum):
    """How the subscribers of a block are written to; see `headgate.core.fanout.feed.Feed`."""

    SOCKETS = 0
    SHARED = 1
    STREAMS = 2
    ACKED = 3


class Block(Generic[S]):
    """Some subscribers of one group; all of them were written the messages up to `sent`, and none above."""

    __slots__ = ("group", "members", "sent")

    def __init__(self, group: Group, sent: int) -> None:
        self.group = group
        self.sent = sent
        self.members: dict[S, _Write] = {}


class Blocks(Generic[S]):
    """The blocks of one topic, each with at most `size` subscribers.

    `swept_at` is when the last sweep began, `took_s` how many seconds the last one that is over has taken.

    No block is empty, and a block's `sent` is where a piece ends. Blocks that shrank are joined when they are written.
    """

    __slots__ = ("_blocks", "_open", "_place", "_size", "swept_at", "took_s")

    def __init__(self, size: int) -> None:
        self._size = size
        self._blocks: dict[Block[S], None] = {}
        self._place: dict[S, Block[S]] = {}
        self._open: dict[Group, Block[S]] = {}  # the one that takes who comes
        self.swept_at = float("-inf")
        self.took_s = 0.0

    def __len__(self) -> int:
        return len(self._place)

    def __iter__(self) -> Iterator[S]:
        return iter(self._place)

    def cursor(self, subscriber: S) -> int:
        """Returns the number of the newest message written to a subscriber."""
        return self._place[subscriber].sent

    def lowest(self, head: int) -> int:
        """Returns the number up to which all have what they get; `head` where there are none."""
        return min((block.sent for block in self._blocks), default=head)

    def behind(self, sent: int) -> list[Block[S]]:
        """Returns the blocks that have not got all up to `sent`."""
        return [block for block in self._blocks if block.sent < sent]

    def add(self, subscriber: S, group: Group, write: _Write, sent: int) -> None:
        """Takes a subscriber who was written the messages up to `sent`."""
        block = self._open.get(group)
        if block is None or block.sent != sent or len(block.members) >= self._size or block not in self._blocks:
            block = self._open[group] = self._new(group, sent)
        block.members[subscriber] = write
        self._place[subscriber] = block

    def remove(self, subscriber: S) -> bool:
        """Forgets a subscriber; False where it is not here."""
        block = self._place.pop(subscriber, None)
        if block is None:
            return False
        del block.members[subscriber]
        if not block.members:
            del self._blocks[block]
        return True

    def share(self, subscriber: S) -> None:
        """Moves a subscriber from `SOCKETS` to `SHARED`; one of another group stays there."""
        block = self._place.get(subscriber)
        if block is not None and block.group is Group.SOCKETS:
            write, sent = block.members[subscriber], block.sent
            self.remove(subscriber)
            self.add(subscriber, Group.SHARED, write, sent)

    def split(self, block: Block[S], count: int) -> Block[S]:
        """Moves the first `count` subscribers of a block into one of their own, and returns it."""
        part = self._new(block.group, block.sent)
        for subscriber in list(block.members)[:count]:
            part.members[subscriber] = block.members.pop(subscriber)
            self._place[subscriber] = part
        return part

    def settle(self, block: Block[S]) -> None:
        """A block was written: joins it with one that has room and got the same, so that they do not become many."""
        other = self._open.get(block.group)
        if not block.members or other is block or len(block.members) >= self._size:
            return
        if other is None or other not in self._blocks or other.sent != block.sent:
            self._open[block.group] = block
        elif len(other.members) + len(block.members) <= self._size:
            other.members.update(block.members)
            self._place.update(dict.fromkeys(block.members, other))
            block.members.clear()
            del self._blocks[block]

    def skip(self, sent: int) -> None:
        """What was up to `sent` will never come."""
        for block in self._blocks:
            block.sent = sent

    def everyone(self) -> Iterator[tuple[S, Group, _Write]]:
        """Yields all subscribers with their groups."""
        for block in self._blocks:
            for subscriber, write in block.members.items():
                yield subscriber, block.group, write

    def _new(self, group: Group, sent: int) -> Block[S]:
        block: Block[S] = Block(group, sent)
        self._blocks[block] = None
        return block
