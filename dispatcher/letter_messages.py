"""Finds the message of a dead letter as it is now."""

import enum
from collections.abc import Callable
from typing import Final, Literal

from dispatcher.history import Asker
from dispatcher.page_builder import ABSENT
from dispatcher.reading import Reading
from dispatcher.shard import ShardOwner
from headgate.core.sequencer.rows import Row
from headgate.core.wire.errors import Refusal

RETRY_MS: Final = 1_000


class NoMessage(enum.Enum):
    """Why there is no message: the history has lost it, or it is on its way and the asker is called again."""

    GONE = "gone"
    LATER = "later"


Found = bytes | Literal[NoMessage.GONE, NoMessage.LATER]


class LetterMessages:
    """The messages of one shard, from its history."""

    def __init__(self, owner: ShardOwner, reading: Reading) -> None:
        self._owner = owner
        self._reading = reading

    def find(self, row: Row, seq: int, asker: Asker, again: Callable[[], None]) -> Found:
        """Returns the frame of a message; LATER: `again` is called when it may be there.

        Raises Refusal `not_ready` where too many wait.
        """
        history = self._owner.history
        first, is_known = self._reading.kept(row)
        kept = history.get(row.epoch, seq)
        if seq < first and (is_known or (kept is None and history.complete)):
            return NoMessage.GONE
        if kept is None or (seq < first and row.others):  # an event that is not here yet may have changed it
            if history.crowded:
                raise self._crowded()
            history.wait(row.epoch, asker, again)
            return NoMessage.LATER
        now = history.fold(row.epoch, seq, seq).now(kept)
        if isinstance(now, bytes):
            return now
        if self._owner.pages.crowded:
            raise self._crowded()
        self._owner.pages.want(row, now[:ABSENT], asker, again)
        return NoMessage.LATER

    def first_kept(self, row: Row) -> int:
        """Returns the oldest seq of a topic that is kept."""
        return self._reading.kept(row).first

    @staticmethod
    def _crowded() -> Refusal:
        return Refusal("not_ready", "too many wait for old messages of this shard", retry_after_ms=RETRY_MS)
