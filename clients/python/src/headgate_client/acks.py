"""What an acknowledged subscription has in hand, has acknowledged and has refused. Pure.

The server delivers again what is not acknowledged, so a message may come twice. It reaches the application twice only
where the application has not settled it: it refused it, or it took it and forgot it.

An `ack` counts for all messages below it, also for one that the application refused and that the server has just sent
again. So none goes above the lowest refused message before that one is settled, or the server has given it up.
"""

from collections import OrderedDict
from typing import Final, Literal

RECENT: Final = 1_024  # of a group; four times what a server has in flight for one subscription

Verdict = Literal["deliver", "drop", "settled"]
Refused = Literal["told", "heard", "here"]  # the `nack` was sent; the server has it; the message has come again


class Acks:
    """The settlements of one subscription. `shared`: a group, of which this member gets a part of the messages.

    The sets hold what is unacknowledged; the server bounds that (256 in flight).
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._settled = 0  # all up to here are, but for those that are held or refused
        self._sent = 0
        self._held: set[int] = set()  # in the queue, or with the application until it settles
        self._refused: dict[int, Refused] = {}
        self._replayed: set[int] = set()  # dead letters, out of order: acknowledged by exactly their seq
        self._recent: OrderedDict[int, None] = OrderedDict()  # of a group: settled

    def arrived(self, seq: int, attempt: int | None, *, new: bool) -> Verdict:
        """Takes a delivery; `attempt` is None where the frame has none. `settled`: acknowledge it once more."""
        replay = attempt == 1 and not new and seq not in self._refused
        if not replay and seq not in self._replayed:
            self._given_up_below(seq)
        if seq in self._held:
            return "drop"  # the copy that is here will be settled
        if seq in self._refused:
            self._refused[seq] = "here"
        elif replay:
            self._replayed.add(seq)
        elif not new and seq not in self._replayed:
            if self._is_settled(seq):
                return "settled"
            if attempt is None and not self._shared:
                return "drop"  # after a reconnect: the application has it
        self._held.add(seq)
        return "deliver"

    def handed_out(self, seq: int) -> None:
        """The application has it and may forget it: the next delivery is passed on."""
        self._held.discard(seq)

    def acknowledge(self, seq: int) -> int | None:
        """Settles `seq` and, but for refused ones, all below it. Returns the seq of the `ack` that is due."""
        if seq in self._replayed:
            self._replayed.discard(seq)
            self._held.discard(seq)
            return seq
        if self._shared:
            for held in [each for each in self._held if each <= seq and each not in self._refused]:
                self._remember(held)
            self._refused.pop(seq, None)
            self._remember(seq)
            return seq
        if self._refused.pop(seq, None) is not None:
            self._held.discard(seq)
        if seq > self._settled:
            self._settled = seq
            kept = self._refused.keys() | self._replayed
            self._held = {held for held in self._held if held > seq or held in kept}
        last = self.repeated() or 0
        if last <= self._sent:
            return None
        self._sent = last
        return last

    def refuse(self, seq: int) -> None:
        """The application refused it: it comes again."""
        self._held.discard(seq)
        if seq not in self._replayed:
            self._refused[seq] = "told"

    def heard(self, seq: int) -> None:
        """The server has the `nack`: what it sends from now on shows whether the message comes again."""
        if self._refused.get(seq) == "told":
            self._refused[seq] = "heard"

    def reconnected(self) -> int | None:
        """A new connection begins at the server's cursor. Returns the seq to acknowledge again, if there is one."""
        for seq, state in self._refused.items():
            self._refused[seq] = "here" if state == "here" else "heard"
        return self.repeated()

    def is_apart(self, seq: int) -> bool:
        """Whether it was refused before, or is a replayed dead letter: its settlement says nothing of others."""
        return seq in self._refused or seq in self._replayed

    def is_replay(self, seq: int) -> bool:
        """Whether it is a replayed dead letter."""
        return seq in self._replayed

    def repeated(self) -> int | None:
        """Returns the highest seq that an `ack` may name, None where there is none."""
        if self._shared:
            return None
        return min(self._settled, min(self._refused, default=self._settled + 1) - 1) or None

    def forget(self) -> None:
        """The topic was created again: its numbers mean other messages."""
        self._settled = self._sent = 0
        for kept in (self._held, self._refused, self._replayed, self._recent):
            kept.clear()

    def _given_up_below(self, seq: int) -> None:
        """The server sends nothing above a refused message before that one: it has come again, or never will."""
        gone = [low for low, state in self._refused.items() if low < seq and state == "heard"]
        for low in gone:
            del self._refused[low]

    def _is_settled(self, seq: int) -> bool:
        return seq in self._recent if self._shared else seq <= self._settled

    def _remember(self, seq: int) -> None:
        self._held.discard(seq)
        self._recent[seq] = None
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
