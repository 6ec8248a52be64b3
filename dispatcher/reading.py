"""Finds the place of a reader in a topic, and serves pages of the topic's past.

While the history is being filled, newest first, a reader waits until the messages that it needs are there. Messages are
called gone only where the log is known to have lost them.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from dispatcher.folding import KeptMessage
from dispatcher.page_builder import SeqRange
from dispatcher.selection import Choice, Selected, Selection
from dispatcher.shard import ShardOwner
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link
from headgate.core.wire.errors import Refusal
from headgate.core.wire.position import NO_EPOCH, Placed, Position, place
from headgate.core.wire.topic_settings import effective
from headgate.runtime.ports import Clock

T = TypeVar("T")

HISTORY_BYTES: Final = 8 * 1024 * 1024  # one answer of history; a page ends there, whatever its limit


class Kept(NamedTuple):
    """The messages of a topic that a reader may get: all from the seq `first` on.

    `known`: those below are gone. Otherwise they may still be on their way into the history.
    """

    first: int
    known: bool


class Reading:
    """Positions and pages of one shard's topics."""

    def __init__(self, owner: ShardOwner, clock: Clock) -> None:
        self._owner = owner
        self._clock = clock
        self._selection = Selection(owner.history)

    def _sure(self, answer: Callable[[], T]) -> T:
        """Answers again where the index file failed meanwhile: without it less is known, and nothing is called gone."""
        history = self._owner.history
        faults = history.faults
        found = answer()
        return found if history.faults == faults else answer()  # the file was closed, so it fails once

    def kept(self, row: Row) -> Kept:
        """Returns the messages that a reader may get now; for readers the topic's retention holds exactly."""
        return self._sure(lambda: self._kept(row))

    def _kept(self, row: Row) -> Kept:
        history = self._owner.history
        here = first = history.first_seq(row.epoch, row.seq)
        settings = effective(row.settings)
        if settings["retention_messages"] is not None:
            first = max(first, row.seq - settings["retention_messages"] + 1)
        if settings["retention_ms"] is not None:
            since = self._seq_at(row, self._clock.wall_ms() - settings["retention_ms"], first)
            first = max(first, row.seq + 1 if since is None else since)
        return Kept(first, history.complete or here == 1 or first > here)

    def _has(self, row: Row, seq: int) -> bool:
        """Returns whether a message below those that are all here can be given.

        Not in a topic with events: one that is not here yet may have changed the message.
        """
        return not row.others and self._owner.history.has(row.epoch, seq)

    def _seq_at(self, row: Row, ms: int, first: int) -> int | None:
        return self._owner.history.seq_at(row.epoch, ms, first, row.seq)

    def place(self, row: Row, position: Position | None) -> tuple[int, Placed] | None:
        """Returns the oldest seq kept and the place of a position; None while that is unknown."""
        if position is None:
            return self.kept(row).first, Placed(row.seq, None, None)
        return self._sure(lambda: self._place(row, position))

    def _place(self, row: Row, position: Position) -> tuple[int, Placed] | None:
        first, known = self.kept(row)
        if not known:
            wanted = self._wanted(row, position, first)
            if wanted is None or not (wanted >= first or self._has(row, wanted)):
                return None
            first = min(first, wanted)
        return first, place(position, row.epoch, first, row.seq, lambda ms: self._seq_at(row, ms, first))

    def _wanted(self, row: Row, position: Position, first: int) -> int | None:
        """Returns the first seq that a reader at a position needs; None while older messages may change it."""
        form, epoch, number = position
        if form == "seq" and epoch in (NO_EPOCH, row.epoch) and number > 0:
            return min(number, row.seq) + 1
        if form == "ts":
            found = self._seq_at(row, number, first)
            if found is None:  # the position is later than all messages, unless none of the topic is here
                return row.seq + 1 if first <= row.seq else None
            return found if found > first else None
        oldest = 1 if form != "last" else max(row.seq - number + 1, 1)
        messages = effective(row.settings)["retention_messages"]
        return oldest if messages is None else max(oldest, row.seq - messages + 1)

    def page(self, row: Row, ask: link.Fetch) -> link.Page | SeqRange | None:
        """Returns a page for a parked session, a span whose frames have to be loaded, or None while it has to wait."""
        return self._sure(lambda: self._page(row, ask))

    def _page(self, row: Row, ask: link.Fetch) -> link.Page | SeqRange | None:
        first, known = self.kept(row)
        begin = ask.after_seq + 1
        if not known and begin < first:
            if not self._has(row, begin):
                return None
            first = begin
        begin = max(begin, first)
        count = min(ask.max_count, max(row.seq - begin + 1, 0))
        span = self._owner.history.span(row.epoch, begin, count, ask.max_bytes)
        if span.absent:
            return span
        return link.Page(
            req=ask.req,
            topic_id=row.topic_id,
            epoch=row.epoch,
            first_seq=first,
            seq=span.seq,
            ts=span.ts,
            frames=span.frames,
        )

    def begin(self, row: Row, after_seq: int) -> int | None:
        """Returns the first seq above a place that a reader may get; None until all messages from there on are here."""
        first, known = self.kept(row)
        return max(after_seq + 1, first) if known or after_seq + 1 >= first else None

    def first_message(self, row: Row, low: int) -> tuple[KeptMessage | None, int]:
        """Returns the oldest message from a seq on; without one, how far was looked, 0 for up to the newest."""
        return self._sure(lambda: self._selection.first(row.epoch, low, row.seq + 1))

    def messages(self, row: Row, low: int, limit: int, max_bytes: int) -> Selected | SeqRange:
        """Returns the oldest messages from a seq on, without events, or a span whose frames have to be loaded."""
        choice = Choice(low, row.seq + 1, limit, max_bytes, newest=False, parent=b"")
        return self._sure(lambda: self._selection.page(row.epoch, choice))

    def history(self, row: Row, ask: link.AskHistory) -> link.HistoryPage | SeqRange:
        """Returns a page of history, or a span whose frames have to be loaded. Raises Refusal `gone`, `bad_request`."""
        if ask.kinds not in ("", "message"):
            raise Refusal("bad_request", f"kinds {ask.kinds[:32]!r}, expected message")
        return self._sure(lambda: self._history_page(row, ask))

    def _history_page(self, row: Row, ask: link.AskHistory) -> link.HistoryPage | SeqRange:
        first, known = self.kept(row)
        if known and 0 < ask.after_seq < first - 1:
            raise Refusal("gone", f"the oldest message kept is seq {first}; ask with after_seq=0", first_seq=first)
        if not known and 0 <= ask.after_seq < first - 1 and self._has(row, ask.after_seq + 1):
            first = ask.after_seq + 1
        if ask.kinds or ask.parent_id:
            return self._some(row, ask, Kept(first, known))
        low, count = self._range(row, ask, first)
        span = self._owner.history.span(row.epoch, low, count, HISTORY_BYTES) if count > 0 else None
        if span is not None and span.absent:
            return span
        return link.HistoryPage(
            req=ask.req,
            epoch=row.epoch,
            first_seq=first,
            last_seq=row.seq,
            complete=known,
            frames=span.frames if span else [],
        )

    def _some(self, row: Row, ask: link.AskHistory, kept: Kept) -> link.HistoryPage | SeqRange:
        """Returns a page without the events, or of the replies to a message."""
        low, above, newest = self._bounds(row, ask, kept.first)
        found = self._selection.page(
            row.epoch, Choice(low, above, ask.limit, HISTORY_BYTES, newest, parent=ask.parent_id)
        )
        if isinstance(found, SeqRange):
            return found
        return link.HistoryPage(ask.req, row.epoch, kept.first, row.seq, kept.known, found.frames, found.edge)

    def _range(self, row: Row, ask: link.AskHistory, first: int) -> tuple[int, int]:
        """Returns the first seq and the number of messages of a page."""
        low, above, newest = self._bounds(row, ask, first)
        if newest:
            low = max(above - ask.limit, low)
        return low, min(ask.limit, above - low)

    def _bounds(self, row: Row, ask: link.AskHistory, first: int) -> tuple[int, int, bool]:
        """Returns the seqs [low, above) that a query names, and whether it wants the newest of them."""
        above = ask.before_seq if ask.before_seq >= 0 else row.seq + 1
        above = min(above, row.seq + 1)
        low = max(ask.after_seq + 1, first)
        if ask.since_ts >= 0:
            found = self._seq_at(row, ask.since_ts, first)
            low = max(low, row.seq + 1 if found is None else found)
        return low, above, ask.after_seq < 0 and ask.since_ts < 0
