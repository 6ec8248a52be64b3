"""Which publishes and deliveries were within their deadlines, by the fault that was there, and what a month allows.

A fault's window goes from when it struck until SETTLE_S after it was healed, or until the next one. An event belongs to
the last fault that struck before the event's deadline passed and whose window had not ended when the event was due. Two
faults of which one struck while the other lasted, or was not over, are counted apart from single ones.
Its lost seconds are the share of late events in its windows times their length: a fault that makes half of all
deliveries late for 10 s costs 5 s.
"""

import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

PUBLISH_S: Final = 1.0  # from when a publish was due until a 200, however often it was repeated
DELIVERY_S: Final = 5.0  # from the 200 until a reader has it
SETTLE_S: Final = 10.0
NONE: Final = "no fault"
TWO: Final = "two faults at once"
MONTH_S: Final = 43_800 * 60.0
TARGET: Final = 0.9995
ALLOWED_S: Final = MONTH_S * (1 - TARGET)  # 21.9 minutes


@dataclass
class Episode:
    """One fault. `kind` for the table of faults; `healed` is infinite while it lasts."""

    kind: str
    state: str
    struck: float
    healed: float = math.inf
    is_second: bool = False  # another one lasts, or is healed and not yet over


class Timely:
    """Events of one sort: those in time are counted by the second in which they were due, late ones are kept."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.in_time: Counter[int] = Counter()
        self.late: array[float] = array("d")

    def add(self, due: float, done: float, count: int = 1) -> None:
        """Takes `count` events; `done` is infinite for what never came."""
        if done - due <= self.deadline_s:
            self.in_time[int(due)] += count
        else:
            self.late.extend([due] * count)

    @property
    def total(self) -> int:
        """All events."""
        return self.in_time.total() + len(self.late)


class Share(msgspec.Struct):
    """Events of one sort in the windows of one kind of fault."""

    total: int = 0
    late: int = 0
    seconds: float = 0.0

    @property
    def within(self) -> float:
        """The share within the deadline; 1 where there was nothing."""
        return 1 - self.late / self.total if self.total else 1.0

    @property
    def lost_s(self) -> float:
        """Seconds of nothing in time that would have cost the same."""
        return self.seconds * (1 - self.within)

    def plus(self, other: "Share") -> "Share":
        """Returns both together."""
        return Share(self.total + other.total, self.late + other.late, self.seconds + other.seconds)


class Cost(msgspec.Struct):
    """What one kind of fault cost: how often it was there, and the shares of publishes and deliveries."""

    played: int
    publishes: Share
    deliveries: Share

    @property
    def lost_s(self) -> float:
        """Seconds that one such fault costs: the worse of publishes and deliveries. Of all of the run for no fault."""
        return max(self.publishes.lost_s, self.deliveries.lost_s) / max(self.played, 1)

    @property
    def a_month(self) -> float:
        """How many such faults 99.95 % a month allows, if nothing else happens; infinite for one that costs nothing."""
        return ALLOWED_S / self.lost_s if self.lost_s else math.inf

    def plus(self, other: "Cost") -> "Cost":
        """Returns both together."""
        return Cost(
            self.played + other.played, self.publishes.plus(other.publishes), self.deliveries.plus(other.deliveries)
        )


class Timeline:
    """The episodes of a run in the order in which they struck."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._episodes = sorted(episodes, key=lambda each: each.struck)
        self._strikes = [each.struck for each in self._episodes]
        nexts = [*self._strikes[1:], math.inf]
        self._accounts = [
            TWO if each.is_second or after < each.healed else each.kind
            for each, after in zip(self._episodes, nexts, strict=False)
        ]

    def account(self, due: float, deadline_s: float) -> str:
        """Returns whose figures an event counts for."""
        at = bisect_right(self._strikes, due + deadline_s) - 1
        if at < 0 or due > self._episodes[at].healed + SETTLE_S:
            return NONE
        return self._accounts[at]

    def shares(self, events: Timely, began: float, ended: float) -> dict[str, Share]:
        """Returns the share of each kind of fault, and of the time without one."""
        shares: dict[str, Share] = {}
        for second in range(int(began), int(ended)):
            share = shares.setdefault(self.account(second + 0.5, events.deadline_s), Share())
            share.seconds += 1
        for second, count in events.in_time.items():
            shares.setdefault(self.account(second + 0.5, events.deadline_s), Share()).total += count
        for due in events.late:
            share = shares.setdefault(self.account(due, events.deadline_s), Share())
            share.total += 1
            share.late += 1
        return shares

    def costs(self, publishes: Timely, deliveries: Timely, began: float, ended: float) -> dict[str, Cost]:
        """Returns what each kind of fault cost."""
        played = Counter(self._accounts)
        first = self.shares(publishes, began, ended)
        second = self.shares(deliveries, began, ended)
        kinds = sorted({*first, *second, *played})
        return {kind: Cost(played[kind], first.get(kind, Share()), second.get(kind, Share())) for kind in kinds}


def month_of(costs: Mapping[str, Cost], assumed: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """Returns the seconds that the assumed faults of a month cost by kind, and the share of the month that is left."""
    lost = {kind: count * costs[kind].lost_s for kind, count in assumed.items() if kind in costs}
    return lost, 1 - sum(lost.values()) / MONTH_S


def nines(available: float) -> float:
    """Returns the number of nines: 3.3 for 99.95 %."""
    return -math.log10(1 - available) if available < 1 else math.inf
