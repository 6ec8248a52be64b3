"""How each topic of a shard is delivered, by its count: the larger of its live subscriptions and its members.

A band is where a count lies between the bounds of a topic; the table says what a topic in a band becomes:

    count:      | < paced_above | >= paced_above | hot_exit to hot_enter | >= hot_enter
    direct      | -             | paced          | by paced_above        | inbox
    paced       | direct        | -              | by paced_above        | inbox
    inbox       | direct        | paced          | -                     | -

A direct topic becomes paced at once: that only spares others. To the inbox and back it goes when the dwell since it
last did is over, from paced to direct when that since any switch is: a count that goes up and down costs two switches
a dwell. A `paced_above` above `hot_enter` is allowed: such a topic goes from direct to the inbox.

Heat is soft: a new owner begins with the hint of its snapshot, and waits for the dwell before its first switch. Only
topics that are not direct, that wait or that have just switched have an entry here.
"""

import enum
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

import msgspec


class Heat(enum.StrEnum):
    """How gateways deliver a topic."""

    DIRECT = "direct"
    PACED = "paced"
    INBOX = "inbox"

    @property
    def mode(self) -> str:
        """The topic's `mode` as clients see it: `direct` or `inbox`."""
        return str(Heat.INBOX if self is Heat.INBOX else Heat.DIRECT)


class HeatBounds(NamedTuple):
    """The settings `paced_above`, `hot_enter` and `hot_exit` of a topic, as they are in effect."""

    paced_above: int
    hot_enter: int
    hot_exit: int


class Band(enum.IntEnum):
    """Where a count is. In COOLING it is between `hot_exit` and `hot_enter`: a topic in the inbox stays there."""

    LOW = 0
    HIGH = 1
    COOLING_LOW = 2  # below paced_above
    COOLING_HIGH = 3
    HOT = 4


BECOMES: Final = {
    (Heat.DIRECT, Band.LOW): Heat.DIRECT,
    (Heat.DIRECT, Band.HIGH): Heat.PACED,
    (Heat.DIRECT, Band.COOLING_LOW): Heat.DIRECT,
    (Heat.DIRECT, Band.COOLING_HIGH): Heat.PACED,
    (Heat.DIRECT, Band.HOT): Heat.INBOX,
    (Heat.PACED, Band.LOW): Heat.DIRECT,
    (Heat.PACED, Band.HIGH): Heat.PACED,
    (Heat.PACED, Band.COOLING_LOW): Heat.DIRECT,
    (Heat.PACED, Band.COOLING_HIGH): Heat.PACED,
    (Heat.PACED, Band.HOT): Heat.INBOX,
    (Heat.INBOX, Band.LOW): Heat.DIRECT,
    (Heat.INBOX, Band.HIGH): Heat.PACED,
    (Heat.INBOX, Band.COOLING_LOW): Heat.INBOX,
    (Heat.INBOX, Band.COOLING_HIGH): Heat.INBOX,
    (Heat.INBOX, Band.HOT): Heat.INBOX,
}


_HINTS: Final = frozenset(Heat)


class Switch(msgspec.Struct, frozen=True, gc=False):
    """A topic is delivered in another way from now on; `count` is why."""

    topic_id: str
    old: Heat
    new: Heat
    count: int

    @property
    def is_of_mode(self) -> bool:
        """Whether it went to the inbox or came back."""
        return Heat.INBOX in (self.old, self.new)


class _CountedTopic(msgspec.Struct, gc=False):
    heat: Heat
    switched: float  # when it last switched
    mode_switched: float  # when it last went to the inbox or came back
    count: int = 0
    due: float | None = None  # when the count is looked at again


def band_of(count: int, bounds: HeatBounds) -> Band:
    """Returns where a count lies."""
    if count >= bounds.hot_enter:
        return Band.HOT
    high = count >= bounds.paced_above
    if count >= bounds.hot_exit:
        return Band.COOLING_HIGH if high else Band.COOLING_LOW
    return Band.HIGH if high else Band.LOW


def hinted(hint: str) -> Heat:
    """Returns the heat that a snapshot names, direct for one that this code does not know."""
    return Heat(hint) if hint in _HINTS else Heat.DIRECT


class Heats:
    """The heats of one shard's topics. Times are monotonic seconds; `start` is when the shard became live here."""

    def __init__(self, dwell_s: float, start: float) -> None:
        self._dwell_s = dwell_s
        self._start = start
        self._entries: dict[str, _CountedTopic] = {}
        self._due: list[tuple[float, str]] = []  # a heap; an entry's own `due` says which are still meant

    def get(self, topic_id: str, hint: str = "") -> Heat:
        """Returns a topic's heat; one that was not counted yet has that of its hint."""
        entry = self._entries.get(topic_id)
        return entry.heat if entry is not None else hinted(hint)

    def counted(self, topic_id: str, count: int, bounds: HeatBounds, now: float, hint: str = "") -> Switch | None:
        """Takes a topic's count; returns what it changes now. What it changes later, `due` asks for."""
        entry = self._entries.get(topic_id)
        if entry is None:
            if not hint and count < bounds.paced_above and count < bounds.hot_enter:
                return None
            entry = self._entries[topic_id] = _CountedTopic(hinted(hint), self._start, self._start)
        entry.count = count
        new = BECOMES[entry.heat, band_of(count, bounds)]
        if new is entry.heat:
            self._settle(topic_id, entry, now)
            return None
        allowed = self._allowed(entry, new)
        if now < allowed:
            self._plan(topic_id, entry, allowed)
            if entry.heat is not Heat.DIRECT or count < bounds.paced_above:
                return None
            new = Heat.PACED  # on its way to the inbox
        switch = Switch(topic_id, entry.heat, new, count)
        entry.heat, entry.switched = new, now
        if switch.is_of_mode:
            entry.mode_switched = now
        self._plan(topic_id, entry, now + self._dwell_s)
        return switch

    def _allowed(self, entry: _CountedTopic, new: Heat) -> float:
        """Returns from when on an entry may switch."""
        if Heat.INBOX in (entry.heat, new):
            return entry.mode_switched + self._dwell_s
        return entry.switched + self._dwell_s if new is Heat.DIRECT else self._start

    def look_again(self, topic_id: str, at: float) -> None:
        """Has `due` name a topic at that time, or earlier where it does so anyway; nothing for one without an entry."""
        entry = self._entries.get(topic_id)
        if entry is not None:
            self._plan(topic_id, entry, at)

    def due(self, now: float) -> Iterator[str]:
        """Yields the topics whose count has to be taken again, each once; `counted` may be called meanwhile."""
        while self._due and self._due[0][0] <= now:
            at, topic_id = heappop(self._due)
            entry = self._entries.get(topic_id)
            if entry is not None and entry.due == at:
                entry.due = None
                yield topic_id

    def count(self, topic_id: str) -> int:
        """Returns what a topic was counted at last, 0 for one without an entry."""
        entry = self._entries.get(topic_id)
        return 0 if entry is None else entry.count

    @property
    def next_due(self) -> float | None:
        """When `due` names the next topic."""
        return self._due[0][0] if self._due else None

    def forget(self, topic_id: str) -> None:
        """The topic is gone."""
        self._entries.pop(topic_id, None)

    def warm(self) -> list[str]:
        """Returns the topics that are not direct, or have just become so: a lower count may change only these."""
        return list(self._entries)

    def number_of(self, heat: Heat) -> int:
        """Returns how many topics have a heat other than direct."""
        return sum(entry.heat is heat for entry in self._entries.values())

    def _settle(self, topic_id: str, entry: _CountedTopic, now: float) -> None:
        """A direct topic whose dwell is over needs no entry."""
        if entry.heat is Heat.DIRECT and now >= entry.switched + self._dwell_s:
            del self._entries[topic_id]

    def _plan(self, topic_id: str, entry: _CountedTopic, at: float) -> None:
        if entry.due is not None and entry.due <= at:
            return
        entry.due = at
        heappush(self._due, (at, topic_id))
        if len(self._due) > 2 * len(self._entries) + 64:  # of topics that are gone, or that are looked at earlier
            self._due = [(kept.due, topic) for topic, kept in self._entries.items() if kept.due is not None]
            heapify(self._due)
