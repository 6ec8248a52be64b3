"""What one subscription is owed, and what it was given: one checker for the in-process broker's machine, the simulation
and the tests with real roles. It knows no transport and no broker.

Each assertion begins with the name of the invariant that it is about.
"""

from collections import Counter
from typing import Final

NOTHING: Final = 0


class DeliveryLedger:
    """One subscription, or a group that shares its messages, told what happened in the order in which it happened.

    `holds_line`: after a failure nothing that was not tried yet may be tried before the failed message is tried again
    or settled. `at_least_once`: a message that succeeded may come again until `store` says that the log knows it. Where
    a process died since a message was tried last, its failures count on, but for the last one at most: `attempt` is then
    not below them. Other tries may be forgotten, and tries that nobody saw may have been counted.
    """

    def __init__(self, who: str, *, holds_line: bool = True, at_least_once: bool = False) -> None:
        self.who = who
        self.owed: Counter[int] = Counter()  # message -> deliveries that are still due
        self.replayed: set[int] = set()
        self.tries: dict[int, int] = {}  # the highest `attempt` of each message
        self.letters: Counter[int] = Counter()
        self._refused: set[int] = set()
        self._acknowledged: dict[int, set[int]] = {}  # what acknowledgements count for that are not known to be stored
        self.stored: set[int] = set()  # their acknowledgements are in the log
        self._settled: set[int] = set()
        self._last: dict[str | None, int] = {}  # by key: the newest message that succeeded
        self._failed: set[int] = set()  # failed, and neither tried again nor settled
        self._holds_line = holds_line
        self._at_least_once = at_least_once
        self._failures: Counter[int] = Counter()  # message -> tries that failed
        self._deaths = 0
        self._deaths_before: dict[int, int] = {}  # message -> deaths before it was tried last
        self._newest = NOTHING

    def owe(self, message: int) -> None:
        """The subscription is to get a message once more."""
        self.owed[message] += 1

    @property
    def seen(self) -> set[int]:
        """All messages that were tried."""
        return set(self.tries)

    def replay(self, message: int) -> None:
        """A dead letter is to be delivered again."""
        self.owe(message)
        self.replayed.add(message)
        self.tries.pop(message, None)
        del self._failures[message]

    def tried(self, message: int, attempt: int) -> None:
        """A delivery of a message began: `attempt` as it was told, from 1."""
        repeats = self._at_least_once and message in self._settled
        assert self.owed[message] > 0 or repeats, f"once: {message} comes again to {self.who}, it is settled"
        if message not in self.replayed:
            assert message not in self.stored, (
                f"cursor: {message} comes again to {self.who}, its acknowledgement is stored"
            )
        before = self.tries.get(message, 0)
        if before == 0 and message not in self.replayed:
            self._first(message)
        died = before > 0 and self._deaths_before[message] < self._deaths
        right = attempt >= max(1, self._failures[message]) if died else attempt == before + 1
        assert right, f"attempts: {message} at {self.who}: {attempt} after {before}"
        self.tries[message] = attempt
        self._deaths_before[message] = self._deaths
        self._failed.discard(message)

    def _first(self, message: int) -> None:
        held = min(self._failed, default=None) if self._holds_line else None
        assert held is None, f"order: {message} jumps the queue at {self.who}: {held} has failed and waits"
        if self._holds_line:
            assert message > self._newest, f"order: {message} is new to {self.who} after {self._newest}"
        self._newest = max(self._newest, message)

    def failed(self, message: int) -> None:
        """The delivery failed."""
        assert message in self.tries, f"states: {message} fails at {self.who} and was not tried"
        self._failed.add(message)
        self._failures[message] += 1

    def succeeded(self, message: int, key: str | None = None, *, in_order: bool = True) -> None:
        """The delivery succeeded; `in_order`: those of one `key` succeed in the order of their numbers."""
        if in_order and message not in self.replayed:
            last = self._last.get(key, NOTHING)
            assert last < message, f"order: {message} after {last} at {self.who}"
            self._last[key] = message
        self.settle(message)

    def given_up(self, message: int, attempts: int, most: int) -> None:
        """The delivery became a dead letter after `attempts` of at most `most`."""
        assert attempts <= most, f"attempts: {message} at {self.who} was given up after {attempts} of {most}"
        self.letters[message] += 1
        self.settle(message)

    def settle(self, message: int, *, only_if_owed: bool = False) -> None:
        """A delivery is over: it succeeded, was given up, or was evicted."""
        repeats = self._at_least_once and message in self._settled
        if self.owed[message] == 0 and (only_if_owed or repeats):
            self._failed.discard(message)
            return
        assert self.owed[message] > 0, f"once: {message} was settled already for {self.who}"
        self.owed[message] -= 1
        self._settled.add(message)
        self._failed.discard(message)

    def refuse(self, message: int) -> None:
        """A `nack` was sent: from now on only an acknowledgement of its own is sure to count for the message."""
        self._refused.add(message)

    def acknowledge(self, message: int) -> None:
        """An acknowledgement of `message`, and of whatever below it is settled, was sent."""
        below = {number for number in self._settled - self._refused if number < message}
        self._acknowledged.setdefault(message, {*below, message})

    def store(self, message: int) -> None:
        """The log has the acknowledgement of `message` that was sent."""
        assert message in self._settled, f"cursor: {message} is stored for {self.who} and is not settled"
        self.stored |= self._acknowledged.pop(message, set())

    def died(self) -> None:
        """A process died, or another session follows: what was in flight comes again."""
        self._deaths += 1
        self._acknowledged.clear()
        self._failed.clear()
        self._newest = NOTHING

    def nothing_is_due(self) -> None:
        """In the end everything is settled."""
        assert self.owed.total() == 0, f"lost: {self.who} never got {sorted(+self.owed)[:5]}"
