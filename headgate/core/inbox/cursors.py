"""The cursors of a shard's users: how far each device has come in each topic. Merged by maximum, in any order.

The devices of a user in a topic are one packed row, the one that was heard of last at its end.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from headgate.core.inbox.packed_rows import SEPARATOR, SLICE_ROWS, PackedRows, packed, user_topic_key, user_topic_of
from headgate.core.wire.inbox_record import CursorEntry
from headgate.core.wire.link_acks import WINDOW
from headgate.core.wire.link_groups import GROUP_DEVICE, GROUP_WINDOW

FAMILY: Final = b"\0c"  # of keys
DEVICES: Final = 100  # of a user in a topic; the newest are kept
ROW_BYTES: Final = 65_536  # of the same; at least eight devices, however much of their messages failed
MAX_ROWS: Final = 1_000_000  # of a shard: no further user and topic gets a cursor
MAX_BYTES: Final = 268_435_456  # of a shard's rows: beyond it no further device gets a cursor either
SHARE: Final = 65_536  # of one user, or of the groups of one topic, in rows: a sixteenth of a shard
UNIT_BYTES: Final = 256  # a row of several devices counts once for each so many bytes that it has begun
REFRESHED: Final = 8  # the part of the time to keep after which the cursor of a device that is here counts as new

_GROUP: Final = GROUP_DEVICE.encode()

IsHeld = Callable[[str, str, str], bool]  # of user, device, topic
MemberEpoch = Callable[[str, str], int]  # of user, topic; 0 for one who is no member


class DeviceCursor(msgspec.Struct, array_like=True, gc=False):
    """The cursor of one device; `link_acks.Cursor` describes the fields.

    `heard_s` is when the newest record that named it was appended, in Unix seconds.
    """

    device_id: str
    epoch: int
    seq: int
    heard_s: int
    above: list[int] = []
    attempts: list[tuple[int, int]] = []


def merged(one: DeviceCursor, other: DeviceCursor) -> DeviceCursor:
    """Returns the maximum of two cursors of a device; merged with itself a cursor gets its shortest form."""
    epoch = max(one.epoch, other.epoch)
    newest = [cursor for cursor in (one, other) if cursor.epoch == epoch]
    seq = max([cursor.seq for cursor in newest])
    above = {at for cursor in newest for at in cursor.above}
    while seq + 1 in above:
        seq += 1
    last = seq + (GROUP_WINDOW if one.device_id == GROUP_DEVICE else WINDOW)  # nothing above it was ever sent
    attempts: dict[int, int] = {}
    for at, count in [entry for cursor in newest for entry in cursor.attempts]:
        if seq < at <= last:
            attempts[at] = max(count, attempts.get(at, 0))
    kept = sorted([at for at in above if seq < at <= last])
    return DeviceCursor(one.device_id, epoch, seq, max(one.heard_s, other.heard_s), kept, sorted(attempts.items()))


class Expiry:
    """Which cursors end: those of which nothing was heard for `keep_ms` and that are of no membership that there is.

    By then the records of the inbox log that named them are gone too. Where a subscription holds the cursor its device
    is heard of.
    """

    def __init__(self, now_ms: int, keep_ms: int, member_epoch: MemberEpoch, is_held: IsHeld) -> None:
        self.refresh_s = (now_ms - keep_ms // REFRESHED) // 1_000
        self._now_s = now_ms // 1_000
        self._since_s = (now_ms - keep_ms) // 1_000
        self._member_epoch = member_epoch
        self._is_held = is_held

    def kept(self, user_id: str, topic_id: str, devices: list[DeviceCursor]) -> list[DeviceCursor]:
        """Returns the devices of a user in a topic whose cursors stay."""
        epoch = self._member_epoch(user_id, topic_id)
        for device in devices:
            if device.heard_s < self.refresh_s and self._is_held(user_id, device.device_id, topic_id):
                device.heard_s = self._now_s
        return [device for device in devices if device.heard_s >= self._since_s or device.epoch == epoch]


class DeviceCursors(PackedRows[list[DeviceCursor]]):
    """Cursors by user and topic. `size` is the bytes of all rows."""

    def __init__(self) -> None:
        super().__init__(list[DeviceCursor], "cursors")
        self.size = 0
        self._used: dict[bytes, int] = {}  # of its SHARE, by whose it is

    @property
    def is_full(self) -> bool:
        """Whether there is no room for a further user and topic."""
        return len(self) >= MAX_ROWS or self.size >= MAX_BYTES

    def has_room(self, user_id: str, device_id: str, topic_id: str) -> bool:
        """Returns whether a cursor can be stored. One that is known moves on even where there is room for no other."""
        if self.size >= MAX_BYTES:
            return self.find(user_id, device_id, topic_id) is not None
        return not self.is_full or row_key(user_id, topic_id) in self

    def has_share(self, user_id: str, device_id: str, topic_id: str) -> bool:
        """Returns whether a cursor is within its user's part of the shard: one that is known always is."""
        used = self._used.get(_whose(row_key(user_id, topic_id)), 0)
        return used < SHARE or self.find(user_id, device_id, topic_id) is not None

    def merge(self, entry: CursorEntry, ts: int) -> bytes:
        """Takes a cursor of a record that was appended at `ts` (Unix milliseconds); returns the key of its row."""
        key = row_key(entry.user_id, entry.topic_id)
        found = DeviceCursor(entry.device_id, entry.epoch, entry.seq, ts // 1_000, entry.above, entry.attempts)
        known = found
        others = []
        for device in self.row(key) or ():
            if device.device_id == entry.device_id:
                known = device
            else:
                others.append(device)
        before = self._rows.get(key, b"")
        row = self._rows[key] = _packed([*others, merged(known, found)])
        self._count(key, before, row)
        return key

    def load(self, key: bytes, value: bytes | None) -> None:
        """Takes a row of a snapshot; None takes it away. Raises CorruptRecord."""
        before = self._rows.get(key, b"")
        super().load(key, value)
        self._count(key, before, self._rows.get(key, b""))

    def _count(self, key: bytes, before: bytes, row: bytes) -> None:
        """A row has changed; an empty one is none."""
        self.size += len(row) - len(before)
        more = _units(row) - _units(before)
        if more:
            whose = _whose(key)
            used = self._used.pop(whose, 0) + more
            if used:
                self._used[whose] = used

    def find(self, user_id: str, device_id: str, topic_id: str) -> DeviceCursor | None:
        """Returns a cursor, None where none is stored."""
        devices = self.row(row_key(user_id, topic_id)) or ()
        return next((device for device in devices if device.device_id == device_id), None)

    def expire(self, rule: Expiry) -> Iterator[list[bytes]]:
        """Forgets cursors by a rule; yields the keys of the rows that changed, a slice at a time."""
        for keys in self.keys(SLICE_ROWS):
            yield [key for key in keys if self._expire_in(key, rule)]

    def _expire_in(self, key: bytes, rule: Expiry) -> bool:
        """Returns whether a row changed."""
        devices = self.row(key)
        if devices is None or all(device.heard_s >= rule.refresh_s for device in devices):
            return False
        kept = rule.kept(*user_topic_of(FAMILY, key), devices)
        before, now = self._rows[key], _packed(kept)
        self.load(key, now if kept else None)
        return now != before


def row_key(user_id: str, topic_id: str) -> bytes:
    """Returns the key of the cursors of a user in a topic."""
    return user_topic_key(FAMILY, user_id, topic_id)


def _whose(key: bytes) -> bytes:
    """Returns whose share a row is of: its user's, a group's that of all groups of its topic."""
    user_id, _, topic_id = key[len(FAMILY) :].partition(SEPARATOR)
    return _GROUP + topic_id if user_id.startswith(_GROUP) else user_id


def _units(row: bytes) -> int:
    return -(-len(row) // UNIT_BYTES)


def _packed(devices: list[DeviceCursor]) -> bytes:
    """Returns a row of the devices at the end of the list, as many as the bounds allow."""
    devices = devices[-DEVICES:]
    while len(row := packed(devices)) > ROW_BYTES:
        del devices[0]
    return row
