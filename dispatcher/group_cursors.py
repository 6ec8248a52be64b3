"""The stored cursor of one consumer group: in the inbox log of the topic's shard, of a user that nobody can be."""

from collections.abc import Callable
from typing import Final

from dispatcher.shard import ShardOwner
from headgate.core.delivery.group_window import GroupWindow
from headgate.core.inbox.cursors import DeviceCursor
from headgate.core.wire.errors import CorruptRecord, Refusal
from headgate.core.wire.inbox_record import encode_cursor
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_groups import GROUP_DEVICE, group_user

Stored = Callable[[Refusal | None], None]
MAX_WAITING: Final = 10_000  # acknowledgements of a group that wait for the log


def stored_cursor(owner: ShardOwner, topic_id: str, epoch: int, group: str) -> DeviceCursor | None:
    """Returns the cursor of a group in this epoch of the topic, None where none is stored."""
    found = owner.inbox.users.cursors.find(group_user(group), GROUP_DEVICE, topic_id)
    return found if found is not None and found.epoch == epoch else None


class GroupCursor:
    """Writes the cursor of one group; at most one write is under way."""

    def __init__(self, owner: ShardOwner, topic_id: str, epoch: int, group: str, window: GroupWindow) -> None:
        self._owner = owner
        self._ids = group_user(group), GROUP_DEVICE, topic_id
        self._epoch = epoch
        self._window = window
        self._version = 0
        self._stored = 0
        self._is_writing = False
        self._is_urgent = False
        self._waiting: list[tuple[int, Stored]] = []

    @property
    def is_stored(self) -> bool:
        """Whether the log has the cursor as it is now."""
        return self._stored == self._version

    def changed(self) -> None:
        """The cursor has moved, or is to be stored for the first time."""
        self._version += 1

    def confirm(self, stored: Stored) -> None:
        """Calls `stored` once the log has the cursor as it is now. Raises Refusal `not_ready` where too many wait."""
        if self.is_stored:
            stored(None)
            return
        if len(self._waiting) >= MAX_WAITING:
            raise Refusal("not_ready", "too many acknowledgements of this group wait for the log", retry_after_ms=1_000)
        self._waiting.append((self._version, stored))
        self.write(urgent=True)

    def write(self, *, urgent: bool = False) -> None:
        """Writes the cursor, unless the log has it; `urgent`: once more, behind a write that is under way."""
        if self.is_stored:
            return
        if self._is_writing:
            self._is_urgent |= urgent
            return
        version, window = self._version, self._window
        cursor = Cursor(*self._ids, self._epoch, window.acked, window.above(), window.attempts())
        self._is_writing, self._is_urgent = True, False
        try:
            writer = self._owner.inbox.cursor_writer
            writer.write([encode_cursor(cursor)], lambda refusal: self._written(version, refusal))
        except Refusal as refusal:
            self._written(version, refusal)
        except CorruptRecord as error:  # a fault of ours: it may be written as it is later
            self._written(version, Refusal("internal", str(error)))

    def _written(self, version: int, refusal: Refusal | None) -> None:
        self._is_writing = False
        if refusal is None:
            self._stored = max(self._stored, version)
        ready = [each for each in self._waiting if refusal is not None or each[0] <= self._stored]
        self._waiting = [each for each in self._waiting if refusal is None and each[0] > self._stored]
        for _, stored in ready:
            stored(refusal)
        if self._is_urgent and refusal is None:
            self.write()
