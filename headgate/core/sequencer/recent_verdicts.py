"""The verdicts of a shard's newest records, and the callers that wait for the verdicts of later ones."""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from headgate.core.wire.verdict import Code, Verdict

KEPT_MESSAGES: Final = 100_000  # a run takes 33 bytes: 3.3 MB a shard when every record is one message
BLOCK_RUNS: Final = 4_096
BLOCK_MESSAGES: Final = 4_096  # the oldest verdicts are dropped by whole blocks
_ACCEPTED: Final = int(Code.ACCEPTED)  # a global is found faster, and this is used for every message
WAITERS: Final = 20_000  # a shard's publishes that wait for their verdict; above, `wait` refuses

Waiter = Callable[[Sequence[Verdict]], None]


class RecentVerdicts:
    """Verdicts by offset, of the newest `kept` messages at least. A waiter is called once its offset has been applied.

    A waiter belongs to a `holder` (a link), and is forgotten with it.
    """

    def __init__(self, kept: int = KEPT_MESSAGES) -> None:
        self._kept = kept
        self._blocks: deque[_VerdictBlock] = deque()
        self._messages = 0
        self._waiters: dict[int, list[tuple[object, Waiter]]] = {}
        self._waiting = 0
        self._ready: list[tuple[object, Waiter, Sequence[Verdict]]] = []

    def put(self, offset: int, verdicts: Sequence[Verdict]) -> None:
        """Keeps the verdicts of a record; offsets rise from call to call. Waiters get them at the next `release`."""
        if verdicts:
            self._keep(offset, verdicts)
        for holder, waiter in self._waiters.pop(offset, ()):
            self._ready.append((holder, waiter, verdicts))

    def get(self, offset: int) -> Sequence[Verdict] | None:
        """Returns the verdicts of a record, None where they are not kept or not given yet."""
        for block in reversed(self._blocks):
            if block.first <= offset:
                return block.get(offset)
        return None

    def wait(self, offset: int, holder: object, waiter: Waiter) -> bool:
        """Has `waiter` called once the offset has been applied. Returns False when too many wait already."""
        if self._waiting >= WAITERS:
            return False
        self._waiting += 1
        self._waiters.setdefault(offset, []).append((holder, waiter))
        return True

    def forget(self, holder: object) -> None:
        """Forgets the waiters of a holder that has closed."""
        kept = {
            offset: [entry for entry in waiters if entry[0] is not holder] for offset, waiters in self._waiters.items()
        }
        self._waiters = {offset: waiters for offset, waiters in kept.items() if waiters}
        self._ready = [entry for entry in self._ready if entry[0] is not holder]
        self._waiting = sum(map(len, self._waiters.values())) + len(self._ready)

    def release(self) -> None:
        """Calls the waiters whose verdicts are there; to be called after the messages before them were sent."""
        ready, self._ready = self._ready, []
        self._waiting -= len(ready)
        for _, waiter, verdicts in ready:
            waiter(verdicts)

    def _keep(self, offset: int, verdicts: Sequence[Verdict]) -> None:
        if not self._blocks or self._blocks[-1].is_full:
            self._blocks.append(_VerdictBlock())
        self._blocks[-1].put(offset, verdicts)
        self._messages += len(verdicts)
        while self._messages - self._blocks[0].messages >= self._kept:
            self._messages -= self._blocks.popleft().messages


class _VerdictBlock:
    """Verdicts of consecutive records as runs: equal verdicts of one record, or accepted ones whose seqs rise by 1.

    A bundle whose messages were all accepted is one run.
    """

    __slots__ = ("_codes", "_counts", "_epochs", "_offsets", "_seqs", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self._offsets = array("Q")
        self._codes = bytearray()
        self._epochs = array("Q")
        self._seqs = array("Q")
        self._counts = array("I")

    @property
    def is_full(self) -> bool:
        return self.messages >= BLOCK_MESSAGES or len(self._codes) >= BLOCK_RUNS

    @property
    def first(self) -> int:
        return self._offsets[0]

    def put(self, offset: int, verdicts: Sequence[Verdict]) -> None:
        self.messages += len(verdicts)
        code = epoch = seq = -1  # of the verdict that would make the open run longer
        for verdict in verdicts:
            if verdict.code == code and verdict.epoch == epoch and verdict.seq == seq:
                self._counts[-1] += 1
            else:
                code, seq, epoch = verdict.code, verdict.seq, verdict.epoch
                self._offsets.append(offset)
                self._codes.append(code)
                self._epochs.append(epoch)
                self._seqs.append(seq)
                self._counts.append(1)
            seq += code == _ACCEPTED

    def get(self, offset: int) -> list[Verdict] | None:
        verdicts: list[Verdict] = []
        at = bisect_left(self._offsets, offset)
        while at < len(self._offsets) and self._offsets[at] == offset:
            code, seq, epoch = Code(self._codes[at]), self._seqs[at], self._epochs[at]
            step = code is Code.ACCEPTED
            verdicts += [Verdict(code, seq + n * step, epoch) for n in range(self._counts[at])]
            at += 1
        return verdicts or None
