"""Pages of history that leave some messages out: events (`kinds=message`), or all but the replies to one message."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from dispatcher.history import ABSENT, History
from dispatcher.page_builder import SeqRange

SCAN_ROWS: Final = 20_000  # messages and events looked at for one page: about 10 ms
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
    """Frames ascending in seq. `edge` is the last seq looked at where a bound was reached before the limit, else 0."""

    frames: list[bytes]
    edge: int


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
                return Selected(_ascending(frames, choice), last)
            size += len(now)
            if frames and size > choice.max_bytes:
                return Selected(_ascending(frames, choice), last)
            frames.append(now)
            last = seq
        return Selected(_ascending(frames, choice), edge)

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
        rows = self._history.listed(epoch, low, above, SCAN_ROWS, newest=newest)
        edge = rows[-1][0] if len(rows) == SCAN_ROWS else 0
        return [seq for seq, is_message in rows if is_message], edge

    def _new(self, epoch: int, part: Choice) -> tuple[list[int], int]:
        """Those in memory: they are few enough to look at all."""
        seqs = [
            e.seq
            for e in self._history.recent.following(epoch, part.low)
            if e.seq < part.above and e.change is None and part.parent in (b"", e.parent)
        ]
        return (seqs[::-1] if part.newest else seqs), 0


def _ascending(frames: Sequence[bytes], choice: Choice) -> list[bytes]:
    return list(reversed(frames)) if choice.newest else list(frames)
