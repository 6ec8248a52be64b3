"""What became of each message of a canary: decides on times that it is given, and does nothing itself."""

from collections import OrderedDict
from typing import Any, Final, NamedTuple

REMEMBERED: Final = 10_000  # messages that came, and that are lost: for repeats, and for those that come after all


class Arrival(NamedTuple):
    """A message that came. `again`: it had come before, and the rest says nothing."""

    seconds: float = 0.0
    late: bool = False
    found: bool = False  # it had been counted as lost
    disordered: bool = False
    again: bool = False


class _Open:
    """A message that has not come; `accepted` once the server has said that it is stored."""

    __slots__ = ("accepted", "at")

    def __init__(self, at: float) -> None:
        self.at = at
        self.accepted = False


class CanaryTally:
    """The messages of one canary by number. All times are seconds of one monotonic clock."""

    def __init__(self, late_s: float, lost_s: float) -> None:
        """A message is late after `late_s`, and lost when it was accepted and has not come within `lost_s`."""
        self._late_s = late_s
        self._lost_s = lost_s
        self._open: dict[int, _Open] = {}  # in the order of their times
        self._came: OrderedDict[int, None] = OrderedDict()
        self._given_up: OrderedDict[int, _Open] = OrderedDict()  # lost ones, and those that were never accepted
        self._last: dict[str, tuple[int, int]] = {}  # epoch and the highest seq, by topic

    @property
    def oldest(self) -> float | None:
        """When the oldest message was sent that has not come; None where all have."""
        return next((each.at for each in self._open.values()), None)

    def sent(self, number: int, now: float) -> None:
        """A publish begins."""
        self._open[number] = _Open(now)

    def accepted(self, number: int) -> None:
        """The server has stored a message: from now on it is owed. It may have come before the answer did."""
        found = self._open.get(number)
        if found is not None:
            found.accepted = True

    def came(self, number: int, topic_id: str, epoch: int, seq: int, now: float) -> Arrival | None:
        """A message came; `seq` grows in one topic and epoch. Returns None for one that nothing is known of."""
        last_epoch, last = self._last.get(topic_id, (epoch, 0))
        last = last if last_epoch == epoch else 0
        self._last[topic_id] = (epoch, max(last, seq))
        if number in self._came:
            return Arrival(again=True)
        lost = self._given_up.pop(number, None)
        found = lost or self._open.pop(number, None)
        if found is None:
            return None
        self._came[number] = None
        _bound(self._came)
        seconds = now - found.at
        was_lost = lost is not None and lost.accepted
        return Arrival(seconds, late=seconds > self._late_s, found=was_lost, disordered=seq <= last)

    def give_up(self, now: float) -> int:
        """Gives up what is too old. Returns how many messages are lost: accepted ones only."""
        old = [number for number, each in self._open.items() if now - each.at >= self._lost_s]
        lost = 0
        for number in old:
            each = self._open.pop(number)
            lost += each.accepted
            self._given_up[number] = each
        _bound(self._given_up)
        return lost

    def begin_again(self) -> None:
        """Another subscription follows, which may begin at messages that came before: they do not count as repeats."""
        self._came.clear()
        self._last.clear()


def _bound(among: OrderedDict[int, Any]) -> None:
    while len(among) > REMEMBERED:
        among.popitem(last=False)
