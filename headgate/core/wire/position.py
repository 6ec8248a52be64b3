"""Where a subscription begins: reads the forms of `from` (docs/protocol.md, section 3) and places them in a topic."""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER

NO_EPOCH: Final = -1
CURSOR: Final = "cursor"
_QUERY: Final = re.compile(r"(seq|ts|last|[0-9]{1,16}):([0-9]{1,16})")
_FORMS: Final = (
    'from is "live", "earliest", "cursor", {"epoch":e,"seq":n}, {"seq":n}, {"ts":ms} or {"last":n} with integers '
    "from 0 (in a query: live, earliest, cursor, <epoch>:<seq>, seq:<n>, ts:<ms>, last:<n>)"
)


class Position(NamedTuple):
    """Where a client wants to begin. On the link an array: `["earliest", 0, 0]`, `["seq", epoch, n]` and so on.

    `form` is `earliest`, `seq`, `ts` or `last`, or `cursor`, which is not for the link: a gateway replaces it by the
    place of the device's cursor first. `number` is a seq, Unix milliseconds or a count. `epoch` counts for
    `seq` alone; NO_EPOCH: any.
    """

    form: str
    epoch: int
    number: int


class Placed(NamedTuple):
    """The answer to a position: begin above `cursor`; `resumed` and `reason` as in the `subscribed` frame.

    `resumed` is None for every form but `seq`: only who names a place can find it again.
    """

    cursor: int
    resumed: bool | None
    reason: str | None


def _bad() -> Refusal:
    return Refusal("bad_request", _FORMS)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise _bad()
    return value


def from_json(value: Any) -> Position | None:
    """Reads the member `from` of a subscribe frame; None is live. Raises Refusal `bad_request`."""
    if value is None or value == "live":
        return None
    if value == "earliest":
        return Position("earliest", 0, 0)
    if value == CURSOR:
        return Position(CURSOR, 0, 0)
    if not isinstance(value, dict):
        raise _bad()
    keys = frozenset(value)
    if keys == {"epoch", "seq"}:
        return Position("seq", _number(value["epoch"]), _number(value["seq"]))
    if len(keys) == 1 and keys <= {"seq", "ts", "last"}:
        (form,) = keys
        return _form(form, _number(value[form]))
    raise _bad()


def from_query(text: str) -> Position | None:
    """Reads the query form of `from`, or a Last-Event-ID; None is live. Raises Refusal `bad_request`."""
    if text in ("live", "earliest", CURSOR):
        return from_json(text)
    match = _QUERY.fullmatch(text)
    if match is None:
        raise _bad()
    form, number = match[1], _number(int(match[2]))
    if form in ("seq", "ts", "last"):
        return _form(form, number)
    return Position("seq", _number(int(form)), number)


def _form(form: str, number: int) -> Position:
    return Position(form, NO_EPOCH if form == "seq" else 0, number)


def place(
    position: Position | None, epoch: int, first_seq: int, seq: int, seq_at: Callable[[int], int | None]
) -> Placed:
    """Places a position in a durable topic of `epoch` that keeps `first_seq` to `seq` (empty: first_seq = seq+1).

    `seq_at(ms)` gives the first seq kept whose ts is not smaller, None where there is none.
    """
    oldest = first_seq - 1
    if position is None:
        return Placed(seq, None, None)
    form, wanted_epoch, number = position
    if form == "earliest":
        return Placed(oldest, None, None)
    if form == "last":
        return Placed(max(seq - number, oldest), None, None)
    if form == "ts":
        found = seq_at(number)
        return Placed(seq if found is None else found - 1, None, None)
    return _place_seq(wanted_epoch, number, epoch, oldest, seq)


def _place_seq(wanted_epoch: int, number: int, epoch: int, oldest: int, seq: int) -> Placed:
    if wanted_epoch not in (NO_EPOCH, epoch):
        return Placed(oldest, False, "epoch_changed")
    if number == 0:
        return Placed(oldest, True, None)
    if number > seq:
        return Placed(seq, False, "ahead")
    if number < oldest:
        return Placed(oldest, False, "expired")
    return Placed(number, True, None)
