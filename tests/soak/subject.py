"""What is published to each topic, and what a reader may see of it. Knows no transport.

A topic lives several lives: it is deleted and created again. Its messages are numbered from 1 in each life, in the
order in which they are published, one batch after the other. A message without `client_msg_id` whose request had no
outcome cannot be sent again: it is in `maybe` and may be seen once, anywhere, or never.
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Subject:
    """One topic as its publisher knows it. `settled` is the newest number of this life whose fate is known."""

    topic_id: str
    life: int = 1
    count: int = 0
    settled: int = 0
    maybe: set[tuple[int, int]] = field(default_factory=set)

    def recreated(self) -> None:
        """The next life begins."""
        self.life += 1
        self.count = self.settled = 0


class Findings:
    """What readers found, by kind, with the first witnesses of each."""

    WITNESSES = 5

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.witnesses: list[str] = []

    def note(self, kind: str, text: str) -> None:
        """Notes one."""
        self.counts[kind] += 1
        if self.counts[kind] <= self.WITNESSES:
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

    def take(self, life: int, number: int) -> None:
        """Takes one message."""
        self.seen += 1
        if life != self.life:
            if life < self.life:
                self._findings.note("reordered", f"{self._name}: life {life} after {self.life}")
                return
            known = self.life != 0
            self.life, self.last, self._extra = life, 0 if known else number - 1, set()
        if (life, number) in self._subject.maybe and number <= self.last:
            if number in self._extra:
                self._findings.note("repeated", f"{self._name}: {life}/{number}, which nobody could send again")
            self._extra.add(number)
            return
        if number <= self.last:
            self._findings.note("repeated", f"{self._name}: {life}/{number} after {self.last}")
            return
        self._missing(number)
        self.last = number

    def gap(self, text: str) -> None:
        """A frame said that something will not come."""
        self._findings.note("gaps", f"{self._name}: {text}")

    @property
    def is_done(self) -> bool:
        """Whether everything that was acknowledged in the topic's present life has been seen."""
        subject = self._subject
        if self.life != subject.life:
            return subject.settled == 0
        return all((self.life, n) in subject.maybe for n in range(self.last + 1, subject.settled + 1))

    def where(self) -> str:
        """Says where it stands and where it should."""
        return f"{self._name}: at {self.life}/{self.last}, the topic at {self._subject.life}/{self._subject.settled}"

    def _missing(self, number: int) -> None:
        lost = [n for n in range(self.last + 1, number) if (self.life, n) not in self._subject.maybe]
        if lost:
            self._findings.note("lost", f"{self._name}: {self.life}/{lost[0]} and {len(lost) - 1} more before {number}")
