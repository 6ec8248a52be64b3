"""Pages of history that leave some messages out: events (`kinds=message`), or all but the replies to one message."""

from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from dispatcher.folding import KeptMessage
from dispatcher.history import History
from dispatcher.page_builder import ABSENT, SeqRange

SCAN_ROWS: Final = 20_000  # messages and events looked at for one page: about 10 ms
LEAST_ROWS: Final = 100  # of them that are read first; nearly all are messages mostly
_SPARSE: Final = 4  # of so many messages of the topic less than one is wanted: then each is asked for alone


class Choice(NamedTuple):
    """What a page may hold: seqs in [low, above), the newest `limit` of them or the oldest, at most `max_bytes`.

    `parent` is the message whose replies are wanted; b"": all messages without the events.
    """

    low: int
    above: int
    limit: int
    max_bytes: int
    newest: bool
    parent: bytes


class Selected(NamedTuple):
    """Frames ascending in seq. `edge` is the last seq looked at where a bound was reached before the limit, else 0.

    `last` is the seq of the frame that was taken last, 0 without frames.
    """

    frames: list[bytes]
    edge: int
    last: int = 0


class Selection:
    """Serves them for one shard."""

    def __init__(self, history: History) -> None:
        self._history = history

    def page(self, epoch: int, choice: Choice) -> Selected | SeqRange:
        """Returns a page, or a span whose frames have to be read from the log first."""
        seqs, edge = self._seqs(epoch, choice)
        frames: list[bytes] = []
        size, last = 0, 0
        dense = bool(seqs) and abs(seqs[-1] - seqs[0]) < _SPARSE * len(seqs)
        fold = self._history.fold(epoch, min(seqs), max(seqs)) if dense else None
        for seq in seqs:
            kept = self._history.get(epoch, seq)
            if kept is None:
                continue  # it left meanwhile
            now = (fold or self._history.fold(epoch, seq, seq)).now(kept)
            if not isinstance(now, bytes):
                if not frames:
                    return SeqRange(seq, [], [], now[:ABSENT])
                return Selected(_ascending(frames, choice), last, last)
            size += len(now)
            if frames and size > choice.max_bytes:
                return Selected(_ascending(frames, choice), last, last)
            frames.append(now)
            last = seq
        return Selected(_ascending(frames, choice), edge, last)

    def first(self, epoch: int, low: int, above: int) -> tuple[KeptMessage | None, int]:
        """Returns the oldest message in [low, above); without one, how far was looked, 0 for all of it."""
        seqs, edge = self._seqs(epoch, Choice(low, above, 1, 0, newest=False, parent=b""))
        found = self._history.get(epoch, seqs[0]) if seqs else None
        if found is None and seqs:
            return None, seqs[0]  # it left meanwhile
        return found, edge

    def _seqs(self, epoch: int, choice: Choice) -> tuple[list[int], int]:
        """Returns the seqs of a page in the order in which they are wanted, and its edge."""
        in_memory = self._history.recent.first(epoch) or choice.above
        old = choice._replace(above=min(choice.above, in_memory))
        new = choice._replace(low=max(choice.low, in_memory))
        seqs: list[int] = []
        for part, is_old in ((new, False), (old, True)) if choice.newest else ((old, True), (new, False)):
            if part.low >= part.above or len(seqs) >= choice.limit:
                continue
            found, edge = self._old(epoch, part) if is_old else self._new(epoch, part)
            seqs += found
            if edge and len(seqs) < choice.limit:
                return seqs, edge
        return seqs[: choice.limit], 0

    def _old(self, epoch: int, part: Choice) -> tuple[list[int], int]:
        low, above, limit, _, newest, parent = part
        if parent:
            return self._history.replies(epoch, parent, low, above, limit, newest=newest), 0
        seqs, looked, most = list[int](), 0, min(max(limit, LEAST_ROWS), SCAN_ROWS)
        while True:
            rows = self._history.listed(epoch, low, above, most, newest=newest)
            seqs += [seq for seq, is_message in rows if is_message]
            looked += len(rows)
            if len(rows) < most or len(seqs) >= limit:
                return seqs, 0
            if looked >= SCAN_ROWS:
                return seqs, rows[-1][0]
            low, above = (low, rows[-1][0]) if newest else (rows[-1][0] + 1, above)
            most = SCAN_ROWS - looked

    def _new(self, epoch: int, part: Choice) -> tuple[list[int], int]:
        """Those in memory: they are few enough to look at all."""
        entries = islice(self._history.recent.following(epoch, part.low), part.above - part.low)
        wanted = (e.seq for e in entries if e.change is None and part.parent in (b"", e.parent))
        return (list(wanted)[::-1] if part.newest else list(islice(wanted, part.limit))), 0


def _ascending(frames: Sequence[bytes], choice: Choice) -> list[bytes]:
    return list(reversed(frames)) if choice.newest else list(frames)
