"""What is published to each topic, and what a reader may see of it. Knows no transport.

A topic lives several lives: it is deleted and created again. Its messages are numbered from 1 in each life, in the
order in which they are published, one batch after the other. A message without `client_msg_id` whose request had no
outcome cannot be sent again: it is in `maybe` and may be seen once, anywhere, or never. One that was answered 503 and
was not sent again is in `refused` and may never be seen.
"""

import math
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.soak.availability import DELIVERY_S, Timely


@dataclass
class Subject:
    """One topic as its publisher knows it. `settled` is the newest number of this life whose fate is known."""

    topic_id: str
    life: int = 1
    count: int = 0
    settled: int = 0
    maybe: set[tuple[int, int]] = field(default_factory=set)
    refused: set[tuple[int, int]] = field(default_factory=set)
    _acked: defaultdict[int, "array[float]"] = field(default_factory=lambda: defaultdict(lambda: array("d")))

    def acknowledge(self, numbers: Iterable[int], at: float) -> None:
        """Notes when messages of this life were acknowledged."""
        times = self._acked[self.life]
        times.extend([math.nan] * (self.count - len(times)))
        for number in numbers:
            times[number - 1] = at

    def acked_at(self, life: int, number: int) -> float:
        """Returns when a message was acknowledged, not a number when it was not yet."""
        times = self._acked[life]
        return times[number - 1] if number <= len(times) else math.nan

    def is_offered(self, life: int, number: int) -> bool:
        """Says whether a message was ever sent; of earlier lives only whether there was that life."""
        return life < self.life or (life == self.life and 1 <= number <= self.count)

    def is_due(self, life: int, number: int) -> bool:
        """Says whether a message has to come."""
        return (life, number) not in self.maybe and (life, number) not in self.refused

    def recreated(self) -> None:
        """The next life begins."""
        self.life += 1
        self.count = self.settled = 0


class Findings:
    """What readers found, by kind, with the first witnesses of each."""

    WITNESSES = 5

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.witnesses: list[str] = []
        self.deliveries = Timely(DELIVERY_S)
        self._told: Counter[str] = Counter()

    def note(self, kind: str, text: str, count: int = 1) -> None:
        """Notes `count` messages of a kind."""
        self.counts[kind] += count
        self._told[kind] += 1
        if self._told[kind] <= self.WITNESSES:
            self.witnesses.append(f"{kind}: {text}")


class Reading:
    """One reader's view of one topic: each message is checked as it comes, and none is kept."""

    def __init__(self, reader: str, subject: Subject, findings: Findings) -> None:
        self.life = 0
        self.last = 0
        self.seen = 0
        self._name = f"{reader}, {subject.topic_id}"
        self._subject = subject
        self._findings = findings
        self._extra: set[int] = set()  # of this life, those of `maybe` that came
        self._missed: set[int] = set()  # of this life, those noted as lost

    def take(self, life: int, number: int) -> None:
        """Takes one message."""
        self.seen += 1
        if not self._subject.is_offered(life, number):
            self._findings.note("invented", f"{self._name}: {life}/{number}, of {self._subject.count} that were sent")
            return
        if (life, number) in self._subject.refused:
            self._findings.note("refused and there", f"{self._name}: {life}/{number} was answered 503")
            return
        if life != self.life:
            if life < self.life:
                self._findings.note("reordered", f"{self._name}: life {life} after {self.life}")
                return
            known = self.life != 0
            self.life, self.last, self._extra = life, 0 if known else number - 1, set()
            self._missed.clear()
        if number <= self.last:
            self._earlier(number)
            return
        self._missing(number)
        self.last = number
        if (life, number) in self._subject.maybe:
            self._extra.add(number)
        self._in_time(number)

    def _earlier(self, number: int) -> None:
        """Takes one whose place has passed."""
        if (self.life, number) in self._subject.maybe:
            if number in self._extra:
                again = f"{self._name}: {self.life}/{number}, which nobody could send again"
                self._findings.note("repeated", again)
            self._extra.add(number)
        elif number in self._missed:
            self._missed.discard(number)
            self._findings.counts["lost"] -= 1
            self._findings.note("reordered", f"{self._name}: {self.life}/{number} after {self.last}")
        else:
            self._findings.note("repeated", f"{self._name}: {self.life}/{number} after {self.last}")

    def _in_time(self, number: int) -> None:
        """Counts a delivery; one that comes before the publisher has its answer is in time."""
        now = self._findings.clock()
        acked = self._subject.acked_at(self.life, number)
        self._findings.deliveries.add(now if math.isnan(acked) else acked, now)

    def changed(self, life: int, number: int) -> None:
        """A message has another content than the one that was sent."""
        self._findings.note("invented", f"{self._name}: {life}/{number} with another content")

    def gap(self, text: str) -> None:
        """A frame said that something will not come."""
        self._findings.note("gaps", f"{self._name}: {text}")

    @property
    def is_done(self) -> bool:
        """Whether everything that was acknowledged in the topic's present life has been seen."""
        subject = self._subject
        if self.life != subject.life:
            return subject.settled == 0
        return not self._due()

    @property
    def is_late(self) -> bool:
        """Whether something was acknowledged a deadline ago and has not come."""
        acked = self._subject.acked_at(self.life, self.last + 1)
        return self.life == self._subject.life and acked < self._findings.clock() - DELIVERY_S

    def end(self) -> None:
        """Notes what never came, at the end of the run."""
        subject = self._subject
        if self.life != subject.life:
            self.life, self.last = subject.life, 0
        missing = self._due()
        if missing:
            self._findings.note("lost", f"never came: {self.where()}", len(missing))
            self._late(missing)

    def where(self) -> str:
        """Says where it stands and where it should."""
        return f"{self._name}: at {self.life}/{self.last}, the topic at {self._subject.life}/{self._subject.settled}"

    def _missing(self, number: int) -> None:
        lost = [n for n in range(self.last + 1, number) if self._subject.is_due(self.life, n)]
        if lost:
            text = f"{self._name}: {self.life}/{lost[0]} and {len(lost) - 1} more before {number}"
            self._findings.note("lost", text, len(lost))
            self._missed.update(lost)
            self._late(lost)

    def _due(self) -> list[int]:
        """Returns what has to come and has not."""
        subject = self._subject
        return [n for n in range(self.last + 1, subject.settled + 1) if subject.is_due(self.life, n)]

    def _late(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            acked = self._subject.acked_at(self.life, number)
            self._findings.deliveries.add(self._findings.clock() if math.isnan(acked) else acked, math.inf)
