"""Where one subscription is in its topic: what to ask for after a reconnect, and which messages are repeats. Pure."""

import re
from typing import Any, Final

from headgate_client.frames import Frame

From = str | dict[str, int]
_WORDS: Final = frozenset({"live", "earliest", "cursor"})
_FORMS: Final = (frozenset({"epoch", "seq"}), frozenset({"seq"}), frozenset({"ts"}), frozenset({"last"}))
_TEXT: Final = re.compile(r"(seq|ts|last|[0-9]+):([0-9]+)")


def check_from(value: From) -> From:
    """Returns a `from` in its JSON form; a string may be the form of a query too, `seq:5`. Raises ValueError."""
    if isinstance(value, str):
        found = _TEXT.fullmatch(value)
        if found is not None and found[1].isdigit():
            return {"epoch": int(found[1]), "seq": int(found[2])}
        if found is not None:
            return {found[1]: int(found[2])}
        if value in _WORDS:
            return value
    elif isinstance(value, dict) and frozenset(value) in _FORMS and all(map(_is_number, value.values())):
        return value
    raise ValueError(
        f"from_ is {value!r}, not 'live', 'earliest', 'cursor', {{'epoch': e, 'seq': n}}, {{'seq': n}}, "
        "{'ts': ms} or {'last': n}"
    )


def form_of(value: From) -> str:
    """Returns the form of a query string."""
    if isinstance(value, str):
        return value
    if "epoch" in value:
        return f"{value['epoch']}:{value['seq']}"
    return ",".join(f"{name}:{number}" for name, number in value.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class Position:
    """How far a subscription has read, and where it began.

    `acked`: the server keeps a cursor too. A reconnect asks for that only where the application began at it: it may be
    far ahead of one that reads an old part again. `shared`: a group, whose messages come in no order.
    """

    def __init__(self, start: From = "live", *, acked: bool = False, shared: bool = False) -> None:
        self._start = start
        self._acked = acked
        self._shared = shared
        self._at_cursor = acked and start == "cursor"
        self._asked: From = start
        self._durable = True
        self._begin: int | None = None  # delivery began behind it
        self._head: int | None = None  # of the first grant, where that does not tell where delivery begins
        self._jumps = False  # the next message may lie further on: another session of the device had those before it
        self.epoch: int | None = None
        self.seq: int | None = None

    def ask(self, settled: int | None = None) -> From:
        """Returns the `from` of the next subscribe. `settled` (acked): nothing up to it is open."""
        self._asked = self._wanted(settled)
        return self._asked

    def subscribed(self, frame: Frame) -> str | None:
        """Takes a `subscribed` frame. Returns why the numbers mean other messages now, None where they do not:
        `recreated`, or `ahead` where the server has lost the newest."""
        if frame.get("profile") == "ephemeral":  # nothing is kept: there is no position to resume from
            self.epoch = self.seq = self._begin = None
            self._start, self._durable, self._at_cursor = "live", False, False
            return None
        epoch, reason, resumed = frame.get("epoch"), frame.get("reason"), frame.get("resumed")
        before, self.epoch, self._durable = self.epoch, epoch, True
        self._at_cursor = self._at_cursor and reason != "no_cursor"  # else it may be stored, and may not
        self._jumps = self._asked == "cursor" and resumed is not False
        if before not in (None, epoch) or (before is None and reason == "epoch_changed"):
            self._start, self._head = "earliest", None
            self.seq, self._begin = None, _below_first(frame) or 0
            return "recreated"
        if reason == "ahead":
            self.seq = self._begin = frame.get("seq")
            return "ahead"
        if self._begin is None and self.seq is None:
            self._begin = self._begins(frame)
            self.seq = self._begin if self._asked == "live" else None
        if self._head is None:
            self._head = frame.get("seq")
        return None

    def missing(self, seq: int | None) -> tuple[int, int] | None:
        """Returns the first and the last number that lie before a new message and never came: no gap named them."""
        known = next((each for each in (self.seq, self._begin, self._head) if each is not None), None)
        if seq is None or known is None or seq <= known + 1 or self._jumps or self._shared or not self._durable:
            return None
        return known + 1, seq - 1

    def message(self, seq: int | None) -> bool:
        """Takes a message's seq. Returns whether it is new: not one that came before."""
        if seq is None or not self._durable:
            return True
        if self.seq is not None and seq <= self.seq:
            return False
        self._jumps = False
        if self.seq is None and not self._shared:
            self._begin = seq - 1
        self.seq = seq
        return True

    def passed(self, seq: Any) -> None:
        """Everything up to `seq` is behind: a `gap` or `caught_up` said so."""
        if not isinstance(seq, int) or not self._durable:
            return
        if self._begin is None and not self._shared:
            self._begin = seq
        if self.seq is None or seq > self.seq:
            self.seq = seq

    def _wanted(self, settled: int | None) -> From:
        if self._at_cursor:
            return "cursor"
        seq = self._begin if self.seq is None else self.seq
        if self._shared:
            seq = self._begin  # a group that is there goes on where it is
        elif self._acked:
            seq = self._begin if settled is None else settled
        if seq is None or self.epoch is None or (seq == 0 and self._start == "earliest"):
            return self._start
        return {"epoch": self.epoch, "seq": seq}

    def _begins(self, frame: Frame) -> int | None:
        """Returns the seq behind which delivery begins, None where only what comes first tells it."""
        asked, below = self._asked, _below_first(frame)
        head: int | None = frame.get("seq")
        if asked == "live" or (asked == "cursor" and self._shared and frame.get("reason") == "no_cursor"):
            return head
        if asked == "earliest":
            return below
        if not isinstance(asked, dict) or head is None:
            return None
        if "last" in asked:
            return max(head - asked["last"], below or 0)
        return asked.get("seq") or below  # 0 is the first that is kept; a `ts` tells nothing


def _below_first(frame: Frame) -> int | None:
    first = frame.get("first_seq")
    return first - 1 if isinstance(first, int) else None
