"""The past messages of a shard: the newest in memory, older ones in the index file.

A fault of the file costs history and never delivery. The file is closed, messages in memory are still served, requests
for older ones wait or are answered with `complete: false`, and what the file misses is read from the log again later.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final, Protocol, TypeVar

import structlog

from dispatcher.dispatcher_options import DEFAULT_HISTORY, HistoryOptions
from dispatcher.folding import (
    NO_FOLD,
    Fold,
    KeptMessage,
    edits_in,
    fold_of_events,
    fold_of_tables,
    kept_of,
    reacting_in,
)
from dispatcher.index import HistoryIndex
from dispatcher.index_changes import EditPlace
from dispatcher.index_file import IndexFault, is_damage
from dispatcher.page_builder import PageBuilder, SeqRange, take_now
from dispatcher.ranges import Range, joined, missing
from dispatcher.recent import ITEM_BITS, Recent, RecentMessage, recent_of
from headgate.core.sequencer.effects import Deliver
from headgate.core.wire.message_changes import MessageChange
from headgate.core.wire.records import LastRecord

BATCH_BYTES: Final = 1 << 20  # written at a time
MAX_WAITING: Final = 100_000
ANY_TOPIC: Final = 0  # no topic's epoch

logger = structlog.get_logger("dispatcher")
T = TypeVar("T")


class Asker(Protocol):
    """Somebody who waits for an answer."""

    open: bool  # False once it is closed: then nothing may be kept for it


class History:
    """One shard's messages from the log's `first` offset on. `why` tells what is wrong with the file (empty: nothing).

    `complete` is True while every message of the log is here: only then is a missing message one that the log has lost.
    """

    def __init__(self, first: int, start: int, options: HistoryOptions = DEFAULT_HISTORY) -> None:
        """Messages of records from the offset `start` on will be added; those of [first, start) are missing."""
        self.first = first
        self.recent = Recent(start)
        self.file: HistoryIndex | None = None
        self.why = ""
        self.faults = 0
        self.complete = False
        self.whole_from = start  # every message from this offset on is here
        self.has_gaps = asyncio.Event()  # messages are missing, and there is a file to fill
        self.changed = asyncio.Event()  # there may be work for the keeper of the file, who clears it
        self._options = options
        self._gone: list[tuple[int, int]] = []
        self._unnoted: list[RecentMessage] = []  # events that the file does not know yet
        self._last: LastRecord | None = None
        self._loaded: OrderedDict[int, bytes] = OrderedDict()
        self._loaded_bytes = 0
        self._waiting: dict[int, list[tuple[Asker, Callable[[], None]]]] = {}
        self._waiters = 0
        self._settle()

    # -- the file

    def opened(self, file: HistoryIndex) -> None:
        """Uses the file from now on."""
        self.file, self.why = file, ""
        self._unnoted = self.recent.changes()
        self._settle()
        self.release()

    def fault(self, error: IndexFault) -> None:
        """Closes the file after a fault, and deletes it where it is damaged. Its keeper opens it again later."""
        if self.file is not None:
            self.file.close()
            if is_damage(error):
                with contextlib.suppress(OSError):  # not deleted now: the keeper finds the damage again
                    self.file.delete()
        self.file, self.why = None, f"the index file: {error}"
        self.faults += 1
        logger.error("history without its index file", why=str(error))
        self._settle()
        self.changed.set()

    def _ask(self, question: Callable[[HistoryIndex], T], otherwise: T) -> T:
        if self.file is None:
            return otherwise
        try:
            return question(self.file)
        except IndexFault as error:
            self.fault(error)
            return otherwise

    def close(self) -> None:
        """Closes the file; messages that were not written are read from the log again."""
        if self.file is not None:
            self.file.close()
            self.file = None

    # -- messages come in

    def add(self, offset: int, message: Deliver, change: MessageChange | None = None) -> None:
        """Adds an accepted message, or an event with its change; it can be read at once."""
        entry = recent_of(offset, message, change)
        self.recent.add(entry)
        if change is not None:
            self._unnoted.append(entry)

    def forget(self, offset: int, epoch: int) -> None:
        """A topic was deleted at the offset: its messages are deleted from the file in slices."""
        self._gone.append((offset, epoch))

    def advance(self, next_offset: int, last: LastRecord | None) -> None:
        """Notes that every message below `next_offset` has been added; `last` is the record before it."""
        self.recent.end = next_offset
        self._last = last or self._last
        if self.file is None and self._is_full:
            while self._is_full:
                some, end = self.recent.oldest(self._options.batch, BATCH_BYTES)
                self.recent.drop(len(some), end)
            self._gone = [gone for gone in self._gone if gone[0] >= self.recent.start]  # a rebuild finds the others
            self._forget_noted()
            self._settle()
        self.changed.set()

    @property
    def _is_full(self) -> bool:
        return len(self.recent) > self._options.recent_messages or self.recent.bytes > self._options.recent_bytes

    @property
    def overfull(self) -> bool:
        """Whether delivery has to wait for the file, which is slow but works."""
        return self._is_full and self.file is not None

    @property
    def crowded_file(self) -> bool:
        """Whether the file has frames to drop: then it is tidied between two writes."""
        return self.file is not None and self.file.over > 0

    def write(self) -> bool:
        """Writes the oldest messages of those in memory; returns whether there were any and the file took them."""
        recent = self.recent
        if self.file is None or recent.start >= recent.end:
            return False
        entries, end = recent.oldest(self._options.batch, BATCH_BYTES)
        gone = [epoch for offset, epoch in self._gone if offset < end]
        last = self._last if end == recent.end else None
        start = recent.start

        self._note()

        def writing(file: HistoryIndex) -> bool:
            if missing(file.ranges, start, end):  # an index that was ahead of the newest snapshot has them
                file.write(entries, (start, end), gone=gone, last=last)
            return True

        if not self._ask(writing, False):
            return False
        self._gone = self._gone[len(gone) :]
        recent.drop(len(entries), end)
        self._settle()
        return True

    def _note(self) -> None:
        """Tells the file of all events so far: it must not write the content of a message that is redacted."""
        if self._unnoted and self.file is not None:
            self._ask(lambda file: file.note(self._unnoted), None)
            if self.file is not None:
                self._unnoted = []

    def _forget_noted(self) -> None:
        """Forgets events that are in memory no longer: a rebuild finds them."""
        start = self.recent.start << ITEM_BITS
        self._unnoted = [e for e in self._unnoted if e.pos >= start]

    def fill(self, entries: Sequence[RecentMessage], low: int, high: int, gone: Iterable[int] = ()) -> bool:
        """Writes the messages that a rebuild found in [low, high); returns whether the file took them."""

        self._note()

        def filling(file: HistoryIndex) -> bool:
            file.write(entries, (low, high), gone=gone)
            return True

        done = self._ask(filling, False)
        self._settle()
        self.changed.set()  # there may be something to tidy
        return done

    def take_back(self, epoch: int, first: int, last: int) -> None:
        """Forgets the seqs [first, last] of a topic, which a rebuild took for the wrong messages."""
        self._ask(lambda file: file.unlist(epoch, first, last), None)

    def tidy(self) -> bool:
        """Does one slice of the file's housekeeping; returns whether there may be more to do."""
        return self._ask(lambda file: file.tidy(self.first), False)

    def log_begins(self, first: int) -> None:
        """Notes the log's first offset: the log has lost everything below it."""
        if first > self.first:
            self.first = first
            self._settle()
            self.changed.set()

    # -- messages are read

    def gaps(self) -> list[Range]:
        """Returns the offsets whose messages are in the log and not here, ascending."""
        held = self.file.ranges if self.file is not None else []
        return missing(joined(held, self.recent.start, self.recent.end), self.first, self.recent.end)

    def holds(self, offset: int) -> bool:
        """Returns whether the messages of the record at an offset are here, or lost by the log."""
        return not any(low <= offset < high for low, high in self.gaps())

    def _settle(self) -> None:
        gaps = self.gaps()
        self.whole_from = gaps[-1][1] if gaps else self.first
        was, self.complete = self.complete, not gaps
        if gaps and self.file is not None:
            self.has_gaps.set()
        else:
            self.has_gaps.clear()
        if self.complete and not was:
            self.release()

    def first_seq(self, epoch: int, head: int) -> int:
        """Returns the seq from which on every message of a topic up to its newest, `head`, is here; head+1 for none."""
        found = self._ask(lambda file: file.first_seq(epoch, self.whole_from), None)
        if found is not None:
            return found
        recent = self.recent.first(epoch)
        return head + 1 if recent is None else recent

    def seq_at(self, epoch: int, ts: int, first: int, head: int) -> int | None:
        """Returns the first seq from `first` to `head` whose append time is not below `ts` (Unix ms), else None."""
        found = self._ask(lambda file: file.seq_at(epoch, ts, first), None)
        if found is None:
            found = self.recent.seq_at(epoch, ts, first)
        return found if found is None or found <= head else None

    def has(self, epoch: int, seq: int) -> bool:
        """Returns whether a message is here."""
        return self.recent.has(epoch, seq) or self._ask(lambda file: file.has(epoch, seq), False)

    def seq_of(self, record_id: bytes, epoch: int) -> int | None:
        """Returns the seq that a message id was given, None where it is unknown."""
        found = self.recent.seq_of(record_id, epoch)
        return found if found is not None else self._ask(lambda file: file.seq_of(record_id, epoch), None)

    def places_of(self, record_id: bytes) -> list[tuple[int, int]]:
        """Returns (epoch, seq) of the messages with an id, the newest first; some may be of topics that are gone."""
        found = self.recent.place_of(record_id)
        none: list[tuple[int, int]] = []
        old = self._ask(lambda file: file.places_of(record_id), none)
        return [*([found] if found is not None else []), *(place for place in old if place != found)]

    def listed(self, epoch: int, low: int, high: int, most: int, *, newest: bool) -> list[tuple[int, bool]]:
        """Returns (seq, whether it is a message) of the file's part of [low, high)."""
        return self._ask(lambda file: file.seqs(epoch, low, high, most, newest=newest), [])

    def replies(self, epoch: int, parent: bytes, low: int, high: int, most: int, *, newest: bool) -> list[int]:
        """Returns the seqs of the replies to a message in the file's part of [low, high)."""
        return self._ask(lambda file: file.replies(epoch, parent, low, high, most, newest=newest), [])

    def edits(self, epoch: int, seq: int, most: int) -> list[EditPlace]:
        """Returns the newest edits of a message, oldest first."""
        self._note()
        if self.file is not None:
            return self._ask(lambda file: file.changes.edits(epoch, seq, most), [])
        return edits_in(self.recent.changes_of(epoch, seq))[-most:]

    def reacts(self, epoch: int, seq: int, name: str, user: str) -> bool:
        """Returns whether a user reacts so to a message."""
        self._note()
        if self.file is not None:
            return self._ask(lambda file: file.changes.reacts(epoch, seq, name, user), False)
        return (name, user) in reacting_in(self.recent.changes_of(epoch, seq))

    def at_offset(self, offset: int) -> list[tuple[int, int, int]]:
        """Returns (item, epoch, seq) of the messages of the record at an offset."""
        if offset >= self.recent.start:
            item = (1 << ITEM_BITS) - 1
            return [(e.pos & item, e.epoch, e.seq) for e in self.recent.at_offset(offset)]
        return self._ask(lambda file: file.at_offset(offset), [])

    def events(self, epoch: int, low: int, high: int) -> int:
        """Returns how many seqs of [low, high) are events; all of them are here."""
        first = self.recent.first(epoch) or high
        old = self._ask(lambda file: file.events(epoch, low, min(high, first)), 0) if low < first else 0
        new = islice(self.recent.following(epoch, max(low, first)), max(high - max(low, first), 0))
        return old + sum(entry.change is not None for entry in new)

    def span(self, epoch: int, seq: int, count: int, max_bytes: int) -> SeqRange:
        """Returns at most `count` frames and `max_bytes`, at least one frame, from the first kept at or above `seq` on.

        The span ends before a gap (messages that have not been read from the log yet).
        """
        page = PageBuilder(seq, count, max_bytes)
        fold = self.fold(epoch, seq, seq + count - 1)
        if page.open and not self.recent.has(epoch, seq):
            self._ask(lambda file: self._from_file(file, page, fold, epoch, count), None)
        if page.span.absent or not page.open:
            return page.span
        begin = page.next_seq if page.span.frames else max(seq, self.recent.first(epoch) or 0)
        if self.recent.has(epoch, begin):
            for e in self.recent.following(epoch, begin):
                if not take_now(page, fold, kept_of(e)):
                    break
        return page.span

    def _from_file(self, file: HistoryIndex, page: PageBuilder, fold: Fold, epoch: int, count: int) -> None:
        for found in file.run(epoch, page.span.seq, count):
            if not take_now(page, fold, self._with_loaded(found)):
                return

    def _with_loaded(self, found: KeptMessage) -> KeptMessage:
        return found if found.frame is not None else found._replace(frame=self._loaded.get(found.pos))

    def fold(self, epoch: int, low: int, high: int) -> Fold:
        """Returns what was done to the messages [low, high] of a topic; asking costs nothing where nothing was."""
        self._note()
        file = self.file
        if file is not None and epoch in file.changes.epochs:
            fold = self._ask(lambda file: self._fold_of_file(file, epoch, low, high), None)
            if fold is not None:
                return fold
        if file is not None and self.file is not None:
            return NO_FOLD
        return fold_of_events(partial(self.recent.changes_of, epoch), lambda edit: self.frame_of(epoch, edit))

    def _fold_of_file(self, file: HistoryIndex, epoch: int, low: int, high: int) -> Fold:
        return fold_of_tables(file.changes, epoch, low, high, lambda edit: self.frame_of(epoch, edit))

    def frame_of(self, epoch: int, edit: EditPlace) -> bytes | None:
        """Returns the frame of an edit, None where it has to be read from the log."""
        found = self.get(epoch, edit.seq)
        return None if found is None else found.frame

    def get(self, epoch: int, seq: int) -> KeptMessage | None:
        """Returns a message as it is kept, None where it is not here."""
        entry = self.recent.get(epoch, seq)
        if entry is not None:
            return kept_of(entry)
        found = self._ask(lambda file: file.get(epoch, seq), None)
        return None if found is None else self._with_loaded(found)

    def loaded(self, pos: int, frame: bytes) -> None:
        """Keeps a frame that was read from the log again, until newer ones need the room."""
        self._loaded_bytes += len(frame) - len(self._loaded.pop(pos, b""))
        self._loaded[pos] = frame
        while self._loaded_bytes > self._options.loaded_bytes:
            self._loaded_bytes -= len(self._loaded.popitem(last=False)[1])

    # -- who waits

    @property
    def crowded(self) -> bool:
        """Whether as many requests wait as may."""
        return self._waiters >= MAX_WAITING

    def wait(self, epoch: int, asker: Asker, again: Callable[[], None]) -> None:
        """Calls back once more messages of a topic are here."""
        self._waiters += 1
        self._waiting.setdefault(epoch, []).append((asker, again))

    def release(self, epochs: Iterable[int] | None = None) -> None:
        """Calls back who waits for these topics (epochs; None: for any)."""
        for epoch in list(self._waiting) if epochs is None else epochs:
            waiting = self._waiting.pop(epoch, ())
            self._waiters -= len(waiting)
            for asker, again in waiting:
                if asker.open:
                    again()

    def left(self, asker: Asker) -> None:
        """Forgets what a closed asker waited for."""
        for epoch, waiting in list(self._waiting.items()):
            kept = [(a, again) for a, again in waiting if a is not asker]
            self._waiters -= len(waiting) - len(kept)
            if kept:
                self._waiting[epoch] = kept
            else:
                del self._waiting[epoch]
