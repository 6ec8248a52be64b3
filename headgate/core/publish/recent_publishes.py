"""What ingest remembers of recent publishes, so that a repeat is answered and not charged; knows no log and no clock.

An entry is about one (topic epoch, message id). Its life:

    attempt --> in flight --acknowledged--> known (has a place)      answered from memory from now on
                   |   |
                   |   +--never handed over--> forgotten             the refusal's promise: it will never appear
                   +--outcome unknown--> unresolved --attempt--> in flight ...

An entry that was unresolved once stays so until an attempt is acknowledged: a refusal would then be a lie, so what
would have been `log_unavailable` is `outcome_unknown` (PROTOCOL section 2, Publish).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from headgate.core.wire.errors import Refusal

MAX_KNOWN: Final = 100_000  # about 40 MB: no body is kept
MAX_UNRESOLVED: Final = 100_000  # six seconds of 16,000 publishes a second, the time until a circuit opens
KNOWN_S: Final = 600.0  # retries come within seconds; later ones are the sequencer's business
UNRESOLVED_S: Final = 86_400.0  # as long as the duplicate window

Key = tuple[int, bytes]  # topic epoch, message id


class LogPlace(NamedTuple):
    """Where the log has it: `item` counts those of a bundle."""

    shard: int
    offset: int
    item: int


class RecentPublish:
    """One remembered publish. `flight` is the attempt that is under way, opaque here; `place` once it is known.

    `seq` (0: not known) and `answer` (what was said of deliveries) are filled in by whoever answers.
    """

    __slots__ = ("answer", "at", "fingerprint", "flight", "place", "seq", "unresolved")

    def __init__(self, fingerprint: bytes, now: float) -> None:
        self.fingerprint = fingerprint
        self.at = now
        self.flight: Any = None
        self.place: LogPlace | None = None
        self.unresolved = False
        self.seq = 0
        self.answer: Any = None


class RecentPublishes:
    """The bounded memory; `now` is monotonic seconds everywhere."""

    def __init__(self, max_known: int = MAX_KNOWN, max_unresolved: int = MAX_UNRESOLVED) -> None:
        self._max_known = max_known
        self._max_unresolved = max_unresolved
        self._known: OrderedDict[Key, RecentPublish] = OrderedDict()  # and those in flight; oldest first
        self._unresolved: OrderedDict[Key, RecentPublish] = (
            OrderedDict()
        )  # apart, so that traffic does not push them out

    def __len__(self) -> int:
        return len(self._known) + len(self._unresolved)

    def find(self, key: Key, fingerprint: bytes, now: float) -> RecentPublish | None:
        """Returns the entry of an earlier publish. Raises Refusal `idempotency_conflict` for another body."""
        entry = self._known.get(key) or self._unresolved.get(key)
        if entry is None or self._is_old(entry, now):
            return None
        if entry.fingerprint != fingerprint:
            raise Refusal("idempotency_conflict", "this client_msg_id was used for another body; take a new one")
        return entry

    def attempt(self, key: Key, fingerprint: bytes, flight: Any, now: float) -> RecentPublish:
        """Notes an attempt that is about to be handed over and returns its entry, the earlier one where it stands."""
        entry = self._unresolved.get(key) or self._known.get(key)
        if entry is None or self._is_old(entry, now):
            self._unresolved.pop(key, None)
            self._known.pop(key, None)
            entry = RecentPublish(fingerprint, now)
            _bound(self._known, self._max_known, lambda oldest: now - oldest.at > KNOWN_S)
            self._known[key] = entry
        entry.flight = flight
        return entry

    def acknowledged(self, key: Key, entry: RecentPublish, place: LogPlace, now: float) -> None:
        """The log has it: an unresolved entry is resolved. The first place that is known stays."""
        entry.flight = None
        entry.place = entry.place or place
        if self._unresolved.pop(key, None) is not None:
            entry.unresolved = False
            entry.at = now
            _bound(self._known, self._max_known, lambda oldest: now - oldest.at > KNOWN_S)
            self._known[key] = entry

    def refused(self, key: Key, entry: RecentPublish) -> bool:
        """The attempt was not handed over. Returns True when it can never appear; False when an earlier one may."""
        entry.flight = None
        if entry.unresolved or entry.place is not None:
            return False
        if self._known.get(key) is entry:
            del self._known[key]
        return True

    def unknown(self, key: Key, entry: RecentPublish, now: float) -> None:
        """Nobody knows what became of the attempt."""
        entry.flight = None
        if entry.place is not None or entry.unresolved:
            return
        entry.unresolved = True
        entry.at = now
        self._known.pop(key, None)
        _bound(self._unresolved, self._max_unresolved, lambda oldest: now - oldest.at > UNRESOLVED_S)
        self._unresolved[key] = entry

    def _is_old(self, entry: RecentPublish, now: float) -> bool:
        return now - entry.at > (UNRESOLVED_S if entry.unresolved else KNOWN_S)


def _bound(entries: OrderedDict[Key, RecentPublish], limit: int, is_old: Callable[[RecentPublish], bool]) -> None:
    """Makes room for one more: at most two go a call, so that age never costs in bulk."""
    for _ in range(2):
        key = next(iter(entries), None)
        if key is None or not (len(entries) >= limit or is_old(entries[key])):
            return
        entries.popitem(last=False)
