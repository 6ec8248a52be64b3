"""What an acknowledged subscription has in hand, has acknowledged and has refused. Pure.

The server delivers again what is not acknowledged, so a message may come twice. It reaches the application twice only
where the application has not settled it: it refused it, or it took it and forgot it.

An `ack` counts for all messages below it, also for one that the application refused and that the server has just sent
again. So none goes above the lowest refused message before that one is settled, or the server has given it up. A
refused message that is settled at last is named by an `ack` of its own: one of a message that was sent before it came
again does not count for it. Where the application settles each message by itself (`each`), no `ack` goes above one that
is not settled.

In a group an `ack` counts for its message and for those with a lower number that were sent before it: see GroupAcks.
"""

from collections import OrderedDict
from typing import Final, Literal, NamedTuple

RECENT: Final = 1_024  # of a group; four times what a server has in flight for one subscription

Verdict = Literal["deliver", "drop", "settled"]
Refused = Literal["told", "heard", "here"]  # the `nack` was sent; the server has it; the message has come again


class Due(NamedTuple):
    """An `ack` to send. It stands for each other one with a lower `seq` and a lower `order`; None: for no other."""

    seq: int
    order: int | None


class Acks:
    """The settlements of one subscription of a device.

    The sets hold what is unacknowledged; the server bounds that (256 in flight).
    """

    def __init__(self, *, each: bool = False) -> None:
        """`each`: the application settles messages one by one, in any order, and holds each until then."""
        self._each = each
        self._settled = 0  # all up to here are, but for those that are held or refused
        self._sent = 0
        self._held: dict[int, None] = {}  # in the queue, or with the application until it settles
        self._done: set[int] = set()  # of `each`: settled, above one that is not
        self._refused: dict[int, Refused] = {}
        self._own: set[int] = set()  # were refused and are settled: an `ack` has to name them
        self._replayed: set[int] = set()  # dead letters, out of order: acknowledged by exactly their seq

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
            if attempt is None and self._drops_repeats:
                return "drop"  # after a reconnect: the application has it
        self._held[seq] = None
        return "deliver"

    def again(self, seq: int) -> list[Due]:
        """Returns what to acknowledge after a delivery that is not for the application: the server lacks it."""
        return self._last() if self._is_settled(seq) else []

    def is_oldest(self, seq: int) -> bool:
        """Whether it is the first of those in hand: where that comes again for want of an answer, it has failed."""
        return next(iter(self._held), None) == seq

    def waits_for(self, last: int) -> bool:
        """Whether a refused message up to `last` has not come again."""
        return any(seq <= last and state != "here" for seq, state in self._refused.items())

    def handed_out(self, seq: int) -> None:
        """The application has it and may forget it: the next delivery is passed on."""
        self._held.pop(seq, None)

    def acknowledge(self, seq: int) -> list[Due]:
        """Settles `seq` and, unless each is settled by itself, all below it but refused ones. Returns what is due."""
        if seq in self._replayed:
            self._replayed.discard(seq)
            self._held.pop(seq, None)
            return [Due(seq, None)]
        if self._refused.pop(seq, None) is not None:
            self._own.add(seq)
        if self._each:
            self._done.add(seq)
            return self._settle_below_open()
        self._held.pop(seq, None)
        self._settle(seq)
        return self._due()

    def refuse(self, seq: int) -> list[Due]:
        """The application refused it: it comes again. Returns what is due now that nothing waits for it."""
        self._held.pop(seq, None)
        if seq in self._replayed:
            return []
        self._refused[seq] = "told"
        return self._settle_below_open() if self._each else []

    def heard(self, seq: int) -> None:
        """The server has the `nack`: what it sends from now on shows whether the message comes again."""
        if self._refused.get(seq) == "told":
            self._refused[seq] = "heard"

    def reconnected(self) -> list[Due]:
        """A new connection begins at the server's cursor. Returns what to acknowledge again."""
        for seq, state in self._refused.items():
            self._refused[seq] = "here" if state == "here" else "heard"
        self._own.clear()  # it knows of no refusal
        return self._last()

    def repeated(self) -> int | None:
        """Returns the highest seq that an `ack` may name, None where there is none."""
        return min(self._settled, min(self._refused, default=self._settled + 1) - 1) or None

    def forget(self) -> None:
        """The topic was created again: its numbers mean other messages."""
        self._settled = self._sent = 0
        for kept in (self._held, self._done, self._refused, self._own, self._replayed):
            kept.clear()

    _drops_repeats = True

    def _settle_below_open(self) -> list[Due]:
        """Settles as far as nothing is open; what is refused or replayed is no part of it."""
        apart = self._refused.keys() | self._replayed | self._done
        lowest = next((seq for seq in sorted(self._held) if seq not in apart), None)
        done = [seq for seq in self._done if lowest is None or seq < lowest]
        if done:
            self._settle(max(done))
            self._done.difference_update(done)
        return self._due()

    def _settle(self, seq: int) -> None:
        self._settled = max(self._settled, seq)
        kept = self._refused.keys() | self._replayed
        self._held = {held: None for held in self._held if held > self._settled or held in kept}

    def _due(self) -> list[Due]:
        last = self.repeated() or 0
        due = [Due(seq, None) for seq in sorted(self._own) if seq <= last]
        self._own = {seq for seq in self._own if seq > last}
        if last > self._sent and (not due or due[-1].seq < last):
            due.append(Due(last, last))
        self._sent = max(self._sent, last)
        return due

    def _last(self) -> list[Due]:
        last = self.repeated()
        return [] if last is None else [Due(last, last)]

    def _given_up_below(self, seq: int) -> None:
        """The server sends nothing above a refused message before that one: it has come again, or never will."""
        gone = [low for low, state in self._refused.items() if low < seq and state == "heard"]
        for low in gone:
            del self._refused[low]

    def _is_settled(self, seq: int) -> bool:
        return seq <= self._settled


class Sent(NamedTuple):
    """When the present connection was sent a message: first and last, counted in deliveries."""

    first: int
    last: int


class GroupAcks(Acks):
    """The settlements of a member of a group, which gets a part of the messages, handed-over ones in between.

    It keeps when the present connection was sent what is open. A message that is settled is acknowledged once no lower
    one is open that was sent before it. What comes again is still one that was sent before: the rest of its
    redeliveries may be on the way, and the server has them all in their new order already.
    """

    _drops_repeats = False

    def __init__(self, *, each: bool = False) -> None:
        super().__init__(each=each)
        self._sent_here: dict[int, Sent] = {}  # not acknowledged and not refused, by seq
        self._deliveries = 0
        self._recent: OrderedDict[int, None] = OrderedDict()  # settled

    def arrived(self, seq: int, attempt: int | None, *, new: bool) -> Verdict:
        """Takes a delivery."""
        self._deliveries += 1
        first = self._sent_here[seq].first if seq in self._sent_here else self._deliveries
        self._sent_here[seq] = Sent(first, self._deliveries)
        return super().arrived(seq, attempt, new=new)

    def again(self, seq: int) -> list[Due]:
        """Returns what to acknowledge after a delivery that is not for the application."""
        if seq not in self._held and seq in self._recent:
            self._done.add(seq)
        return self._due()

    def acknowledge(self, seq: int) -> list[Due]:
        """Settles `seq` and, unless each is settled by itself, lower ones that the application was given before it."""
        here = self._sent_here.get(seq)
        if here is not None and not self._each:
            given = [low for low, sent in self._sent_here.items() if low < seq and sent.first < here.first]
            for low in given:
                if low not in self._held:
                    self._finish(low)
        self._finish(seq)
        return self._due()

    def refuse(self, seq: int) -> list[Due]:
        """The application refused it: it comes again, here or to another member."""
        self._held.pop(seq, None)
        self._sent_here.pop(seq, None)
        self._done.discard(seq)
        if seq not in self._replayed:
            self._refused[seq] = "told"
        return self._due()

    def reconnected(self) -> list[Due]:
        """A new connection was sent nothing yet."""
        super().reconnected()
        self._sent_here.clear()
        self._done.clear()
        return []

    def repeated(self) -> int | None:
        """Returns None: no number stands for all below it."""
        return None

    def forget(self) -> None:
        """The topic was created again."""
        super().forget()
        self._sent_here.clear()
        self._recent.clear()

    def _finish(self, seq: int) -> None:
        self._held.pop(seq, None)
        self._refused.pop(seq, None)
        self._replayed.discard(seq)
        self._recent[seq] = None
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        if seq in self._sent_here:
            self._done.add(seq)

    def _due(self) -> list[Due]:
        """Returns as few as stand for all that may be acknowledged."""
        found: list[Due] = []
        first_open: int | None = None  # of those with a lower number
        for seq, sent in sorted(self._sent_here.items()):
            if seq not in self._done:
                first_open = sent.first if first_open is None else min(first_open, sent.first)
            elif first_open is None or sent.last < first_open:
                found.append(Due(seq, sent.last))
        due: list[Due] = []
        for each in sorted(found, key=lambda one: one.order or 0):
            del self._sent_here[each.seq]
            self._done.discard(each.seq)
            due = [before for before in due if before.seq > each.seq]
            due.append(each)
        return due

    def _is_settled(self, seq: int) -> bool:
        return seq in self._recent
