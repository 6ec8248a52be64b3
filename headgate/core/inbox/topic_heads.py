"""Where the topics of a shard's users are: one row a topic, from the pointer bundles of the topics' owners.

Rows are merged in any order. The higher epoch holds, in an epoch a head `gone`, else the higher seq. Of two of the same
seq the one that was written later says whether the topic is `hot`, and the later time holds: 0 is one that the writer,
a new owner, did not know.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from headgate.core.inbox.packed_rows import PackedRows, packed
from headgate.core.wire.inbox_record import HeadEntry
from headgate.core.wire.records import Record

FAMILY: Final = b"\0h"  # of keys
WITHOUT_MEMBERS_MS: Final = 3_600_000  # a membership may come later than the pointer, but not so much later


class TopicHead(msgspec.Struct, array_like=True, gc=False):
    """The head of a topic; `HeadEntry` describes the fields.

    `offset` is that of the record, `heard_s` when the newest record that named the topic was appended, in Unix seconds.
    `has_ended` says that an epoch ended: memberships of it may still come.
    """

    epoch: int
    seq: int
    n: int
    ts: int
    offset: int
    heard_s: int
    hot: bool
    gone: bool
    has_ended: bool

    def ends(self, epoch: int) -> bool:
        """Returns whether memberships of an epoch have ended."""
        return epoch < self.epoch or (self.gone and epoch == self.epoch)


def higher(one: TopicHead, other: TopicHead) -> TopicHead:
    """Returns the maximum of two heads of a topic."""
    place, other_place = _place(one), _place(other)
    if place == other_place:
        best, ts = max(one, other, key=_written), max(one.ts, other.ts)
    else:
        best = one if place > other_place else other
        ts = best.ts
    has_ended = one.has_ended or other.has_ended or one.epoch != other.epoch
    heard_s = max(one.heard_s, other.heard_s)
    return TopicHead(best.epoch, best.seq, best.n, ts, best.offset, heard_s, best.hot, best.gone, has_ended)


def _place(head: TopicHead) -> tuple[int, bool, int]:
    return head.epoch, head.gone, head.seq


def _written(head: TopicHead) -> tuple[int, int, int, bool]:
    return head.offset, head.n, head.ts, head.hot


class TopicHeads(PackedRows[TopicHead]):
    """The heads by topic. Those without members are kept for an hour, those that ended an epoch for longer."""

    def __init__(self) -> None:
        super().__init__(TopicHead, "head")

    def merge(self, entry: HeadEntry, record: Record) -> tuple[bytes | None, bool]:
        """Takes a head of a record.

        Returns the key of its row where that changed, and whether there are new messages.
        """
        key = head_key(entry.topic_id)
        known = self.row(key)
        place = entry.epoch, entry.seq, entry.n, entry.ts, record.offset, record.ts // 1_000
        found = TopicHead(*place, entry.hot, entry.gone, entry.gone)
        best = found if known is None else higher(known, found)
        if best == known:
            return None, False
        self._rows[key] = packed(best)
        n = known.n if known is not None and known.epoch == best.epoch else 0
        return key, best.n > n and not best.gone

    def find(self, topic_id: str) -> TopicHead | None:
        """Returns the head of a topic, None where none is known."""
        return self.row(head_key(topic_id))

    def ended_one(self, topic_id: str) -> bytes | None:
        """Notes that a membership was dropped because of the head; returns the key of its row where that changed."""
        key = head_key(topic_id)
        head = self.row(key)
        if head is None or head.has_ended:
            return None
        head.has_ended = True
        self._rows[key] = packed(head)
        return key

    def expire(self, now_ms: int, keep_ms: int, has_members: Callable[[str], bool]) -> Iterator[list[bytes]]:
        """Forgets heads without members in slices; yields their keys.

        One that ended an epoch stays for `keep_ms`: by then no record of a membership of that epoch comes any more.
        """
        idle_s, ended_s = (now_ms - WITHOUT_MEMBERS_MS) // 1_000, (now_ms - keep_ms) // 1_000

        def ends(key: bytes, head: TopicHead) -> bool:
            if head.heard_s >= (ended_s if head.has_ended else idle_s):
                return False
            return not has_members(topic_of(key))

        yield from self.sweep(ends)


def head_key(topic_id: str) -> bytes:
    """Returns the key of the head of a topic."""
    return FAMILY + topic_id.encode()


def topic_of(key: bytes) -> str:
    """Returns the topic id of a key."""
    return key[len(FAMILY) :].decode()
