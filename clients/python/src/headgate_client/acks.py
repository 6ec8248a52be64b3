"""What an acknowledged subscription has in hand, has acknowledged and has refused. Pure.

The server delivers again what is not acknowledged, so a message may come twice. It reaches the application twice only
where the application has not settled it: it refused it, or it took it and forgot it.
"""

from collections import OrderedDict
from typing import Final, Literal

RECENT: Final = 1_024  # of a group; four times what a server has in flight for one subscription

Verdict = Literal["deliver", "drop", "settled"]


class Acks:
    """The settlements of one subscription. `shared`: a group, of which this member gets a part of the messages.

    The sets hold what is unacknowledged; the server bounds that (256 in flight).
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.acked = 0
        self._shared = shared
        self._held: set[int] = set()  # in the queue, or with the application until it settles
        self._owed: set[int] = set()  # refused, or a replayed dead letter: acknowledged by exactly their seq
        self._recent: OrderedDict[int, None] = OrderedDict()  # of a group: settled

    def arrived(self, seq: int, attempt: int | None, *, new: bool) -> Verdict:
        """Takes a delivery; `attempt` is None where the frame has none. `settled`: acknowledge it once more."""
        if seq in self._held:
            return "drop"  # the copy that is here will be settled
        if seq not in self._owed and not new:
            if attempt == 1:  # a dead letter that was replayed
                self._owed.add(seq)
            elif self._is_settled(seq):
                return "settled"
            elif attempt is None and not self._shared:
                return "drop"  # after a reconnect: the application has it
        self._held.add(seq)
        return "deliver"

    def handed_out(self, seq: int) -> None:
        """The application has it and may forget it: the next delivery is passed on."""
        self._held.discard(seq)

    def acknowledge(self, seq: int) -> list[int]:
        """Settles `seq` and, but for refused ones, all below it. Returns the seqs of the `ack` frames to send."""
        if seq in self._owed:
            self._owed.discard(seq)
            self._settle(seq)
            above = not self._shared and not self._owed and self.acked > seq
            return [seq, self.acked] if above else [seq]
        if self._shared:
            for held in [each for each in self._held if each <= seq and each not in self._owed]:
                self._settle(held)
            self._settle(seq)
            return [seq]
        if seq <= self.acked:
            return []
        self.acked = seq
        self._held = {held for held in self._held if held > seq or held in self._owed}
        return [seq]

    def refuse(self, seq: int) -> None:
        """The application refused it: it comes again."""
        self._held.discard(seq)
        self._owed.add(seq)

    def owes(self, seq: int) -> bool:
        """Whether it was refused before, or is a replayed dead letter: settled by itself, in no order."""
        return seq in self._owed

    def repeated(self) -> int | None:
        """After a reconnect: returns the seq to acknowledge again, None where there is none."""
        if self._shared:
            return None
        last = min(self._owed, default=self.acked + 1) - 1
        return min(last, self.acked) or None

    def forget(self) -> None:
        """The topic was created again: its numbers mean other messages."""
        self.acked = 0
        self._held.clear()
        self._owed.clear()
        self._recent.clear()

    def _is_settled(self, seq: int) -> bool:
        return seq in self._recent if self._shared else seq <= self.acked

    def _settle(self, seq: int) -> None:
        self._held.discard(seq)
        if self._shared:
            self._recent[seq] = None
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
