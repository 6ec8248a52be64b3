"""A page of consecutive messages while it is built, within its bounds."""

from typing import Final, NamedTuple

from dispatcher.folding import Fold, KeptMessage

MAX_ABSENT: Final = 1 << 20
ABSENT: Final = 15  # frames of one page that are read from the log at a time, where messages of it were edited
FOLDED: Final = 250  # messages of a page that were put together from their changes: about 8 ms


class SeqRange(NamedTuple):
    """Frames with consecutive seqs from `seq` on, and their append times (Unix milliseconds).

    `absent` are (position, seq) of messages whose frames have to be read from the log first; then there are no frames.
    """

    seq: int
    ts: list[int]
    frames: list[bytes]
    absent: list[tuple[int, int]]


class PageBuilder:
    """The first frame is always taken."""

    def __init__(self, seq: int, count: int, max_bytes: int) -> None:
        self.span = SeqRange(seq, [], [], [])
        self.open = count > 0
        self._count = count
        self._bytes = max_bytes
        self._folded = 0

    @property
    def next_seq(self) -> int:
        """The seq of the frame that it would take."""
        return self.span.seq + len(self.span.frames)

    def take(self, seq: int, ts: int, frame: bytes, *, folded: bool = False) -> bool:
        """Takes a frame if it is the next one and there is room; returns whether there may be more.

        `folded`: the frame was put together from what was done to its message.
        """
        if not self.span.frames:
            self.span = self.span._replace(seq=seq)
        elif seq != self.next_seq or self._bytes < len(frame):
            self.open = False
            return False
        self.span.ts.append(ts)
        self.span.frames.append(frame)
        self._bytes -= len(frame)
        self._folded += folded
        self.open = len(self.span.frames) < self._count and self._folded < FOLDED
        return self.open

    def miss(self, absent: list[tuple[int, int]], most: int) -> bool:
        """Notes what a message needs from the log; returns whether more of the page may be looked at.

        Nothing may follow a missing frame, so frames taken before it are the page.
        """
        if self.span.frames or (self.span.absent and len(self.span.absent) + len(absent) > most):
            self.open = False
            return False
        self.span.absent.extend(absent)
        return True


def take_now(page: PageBuilder, fold: Fold, kept: KeptMessage) -> bool:
    """Takes a message as it is now; returns whether there may be more."""
    now = fold.now(kept)
    if isinstance(now, bytes):
        return not page.span.absent and page.take(kept.seq, kept.ts, now, folded=now is not kept.frame)
    edited = len(now) > 1 or now[0][1] != kept.seq
    return page.miss(now, ABSENT if edited else MAX_ABSENT)
