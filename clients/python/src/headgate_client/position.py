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
    """How far a subscription has read. `at_cursor`: the server keeps the place, so a reconnect asks for the cursor."""

    def __init__(self, start: From = "live", *, at_cursor: bool = False) -> None:
        self._start = start
        self._at_cursor = at_cursor
        self._durable = True
        self.epoch: int | None = None
        self.seq: int | None = None

    def wanted(self) -> From:
        """Returns the `from` of the next subscribe."""
        if self._at_cursor and self.epoch is not None:
            return "cursor"
        if self.seq is None or self.epoch is None:
            return self._start
        return {"epoch": self.epoch, "seq": self.seq}

    def subscribed(self, frame: Frame) -> bool:
        """Takes a `subscribed` frame. Returns whether the topic was created again: all of its messages are new."""
        if frame.get("profile") == "ephemeral":  # nothing is kept: there is no position to resume from
            self.epoch = self.seq = None
            self._start, self._durable = "live", False
            return False
        epoch, head, reason = frame.get("epoch"), frame.get("seq"), frame.get("reason")
        if reason == "epoch_changed" or self.epoch not in (None, epoch):
            self.epoch, self.seq, self._start = epoch, None, "earliest"
            return True
        if reason == "ahead" or (self.epoch is None and self._start in ("live", {"last": 0})):
            self.seq = head  # what follows is live
        self.epoch = epoch
        return False

    def message(self, seq: int | None) -> bool:
        """Takes a message's seq. Returns whether it is new: not one that came before."""
        if seq is None or not self._durable:
            return True
        if self.seq is not None and seq <= self.seq:
            return False
        self.seq = seq
        return True

    def passed(self, seq: Any) -> None:
        """Everything up to `seq` is behind: a `gap` or `caught_up` said so."""
        if isinstance(seq, int) and self._durable and (self.seq is None or seq > self.seq):
            self.seq = seq
