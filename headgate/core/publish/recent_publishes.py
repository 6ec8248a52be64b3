"""Recent publishes by message id, so that a repeat gets the first one's answer and costs no rate.

An entry is about one (topic epoch, message id); `TRANSITIONS` is its life. A publish that was refused is forgotten: it
never appears, so its id is free again. Once the outcome of an attempt is unknown, a later refusal cannot promise that
any longer: the entry stays unresolved until an attempt is acknowledged, and repeats meanwhile get `outcome_unknown`
instead of `log_unavailable` (docs/protocol.md, section 2, Publish).
"""

import enum
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from headgate.core.wire.errors import IllegalTransition, Refusal

MAX_KNOWN: Final = 100_000  # about 40 MB: no body is kept
MAX_UNRESOLVED: Final = 100_000  # six seconds of 16,000 publishes a second, the time until a circuit opens
KNOWN_S: Final = 600.0  # retries come within seconds; for later ones the sequencer has its duplicate window
UNRESOLVED_S: Final = 86_400.0  # as long as the duplicate window

Key = tuple[int, bytes]  # topic epoch, message id


class PublishState(enum.StrEnum):
    """The state of a remembered publish. KNOWN and FORGOTTEN are final."""

    IN_FLIGHT = "in flight"  # its first attempt is under way
    KNOWN = "known"  # it has a place: repeats are answered from memory
    FORGOTTEN = "forgotten"  # it never appears; the memory no longer holds it
    UNRESOLVED = "unresolved"  # it may be in the log, or appear there later
    RETRYING = "retrying"  # unresolved, and another attempt is under way


class PublishEvent(enum.StrEnum):
    """An event in the life of a remembered publish."""

    ATTEMPT = "attempt"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # the attempt was never handed over
    OUTCOME_UNKNOWN = "outcome unknown"


TRANSITIONS: Final[dict[PublishState, dict[PublishEvent, PublishState]]] = {
    PublishState.IN_FLIGHT: {
        PublishEvent.ACKNOWLEDGED: PublishState.KNOWN,
        PublishEvent.REFUSED: PublishState.FORGOTTEN,
        PublishEvent.OUTCOME_UNKNOWN: PublishState.UNRESOLVED,
    },
    PublishState.UNRESOLVED: {PublishEvent.ATTEMPT: PublishState.RETRYING},
    PublishState.RETRYING: {
        PublishEvent.ACKNOWLEDGED: PublishState.KNOWN,
        PublishEvent.REFUSED: PublishState.UNRESOLVED,
        PublishEvent.OUTCOME_UNKNOWN: PublishState.UNRESOLVED,
    },
    PublishState.KNOWN: {},
    PublishState.FORGOTTEN: {},
}


class LogPlace(NamedTuple):
    """The place of a message in the log: shard, offset of its record, and its index in the record.

    `ts` is the record's append time in Unix milliseconds.
    """

    shard: int
    offset: int
    item: int
    ts: int = 0


class RecentPublish:
    """One remembered publish.

    `attempt` is the caller's own object while an attempt is under way, else None. `place` is set in KNOWN. The caller
    may fill in `seq` (0: not known) and `subscriptions` (of an ephemeral message: how many it was sent to).
    """

    __slots__ = ("at", "attempt", "fingerprint", "place", "seq", "state", "subscriptions")

    def __init__(self, fingerprint: bytes, attempt: Any, now: float) -> None:
        self.fingerprint = fingerprint
        self.at = now
        self.attempt = attempt
        self.state = PublishState.IN_FLIGHT
        self.place: LogPlace | None = None
        self.seq = 0
        self.subscriptions = 0

    @property
    def is_unresolved(self) -> bool:
        """Whether an earlier attempt may have reached the log, or may still do so."""
        return self.state is PublishState.UNRESOLVED or self.state is PublishState.RETRYING

    @property
    def is_answered(self) -> bool:
        """Whether a repeat needs no attempt of its own: one is under way, or the place is known."""
        return self.state is not PublishState.UNRESOLVED and self.state is not PublishState.FORGOTTEN

    def is_too_old(self, now: float) -> bool:
        """Whether its time in the memory is over."""
        return now - self.at > (UNRESOLVED_S if self.is_unresolved else KNOWN_S)

    def move(self, event: PublishEvent, attempt: Any = None) -> None:
        """Takes an event; `attempt` is the one that is under way behind it. Raises IllegalTransition."""
        after = TRANSITIONS[self.state].get(event)
        if after is None:
            raise IllegalTransition(self.state, event)
        self.state = after
        self.attempt = attempt


class RecentPublishes:
    """The bounded memory; `now` is monotonic seconds everywhere."""

    def __init__(self, max_known: int = MAX_KNOWN, max_unresolved: int = MAX_UNRESOLVED) -> None:
        self._max_known = max_known
        self._max_unresolved = max_unresolved
        # Both oldest first. The unresolved are apart, so that traffic does not push them out.
        self._known: OrderedDict[Key, RecentPublish] = OrderedDict()  # KNOWN and IN_FLIGHT
        self._unresolved: OrderedDict[Key, RecentPublish] = OrderedDict()  # UNRESOLVED and RETRYING

    def __len__(self) -> int:
        return len(self._known) + len(self._unresolved)

    def find(self, key: Key, fingerprint: bytes, now: float) -> RecentPublish | None:
        """Returns the entry of an earlier publish. Raises Refusal `idempotency_conflict` for another body."""
        entry = self._known.get(key) or self._unresolved.get(key)
        if entry is None or entry.is_too_old(now):
            return None
        if entry.fingerprint != fingerprint:
            raise Refusal("idempotency_conflict", "this client_msg_id was used for another body; take a new one")
        return entry

    def attempt(self, key: Key, fingerprint: bytes, attempt: Any, now: float) -> RecentPublish:
        """Remembers an attempt in the unresolved entry of its key, or in a new one; returns the entry.

        Raises IllegalTransition where an attempt is under way, and where the place is known.
        """
        entry = self._known.get(key) or self._unresolved.get(key)
        if entry is not None:
            if not entry.is_too_old(now):
                entry.move(PublishEvent.ATTEMPT, attempt)
                return entry
            self._unresolved.pop(key, None)
            self._known.pop(key, None)
        entry = RecentPublish(fingerprint, attempt, now)
        self._remember(key, entry, now)
        return entry

    def acknowledged(self, key: Key, entry: RecentPublish, place: LogPlace, now: float) -> None:
        """Takes the place that the log, or the owner of an ephemeral topic, gave it. Raises IllegalTransition."""
        entry.move(PublishEvent.ACKNOWLEDGED)
        entry.place = place
        if self._unresolved.pop(key, None) is not None:
            entry.at = now
            self._remember(key, entry, now)

    def refused(self, key: Key, entry: RecentPublish) -> None:
        """The attempt was never handed over: forgets the entry unless it is unresolved. Raises IllegalTransition."""
        entry.move(PublishEvent.REFUSED)
        if entry.state is PublishState.FORGOTTEN and self._known.get(key) is entry:
            del self._known[key]

    def unknown(self, key: Key, entry: RecentPublish, now: float) -> None:
        """Nobody can tell whether the attempt reached the log. Raises IllegalTransition."""
        is_first = entry.state is PublishState.IN_FLIGHT
        entry.move(PublishEvent.OUTCOME_UNKNOWN)
        if is_first:
            entry.at = now
            self._known.pop(key, None)
            _make_room(self._unresolved, self._max_unresolved, now - UNRESOLVED_S)
            self._unresolved[key] = entry

    def _remember(self, key: Key, entry: RecentPublish, now: float) -> None:
        _make_room(self._known, self._max_known, now - KNOWN_S)
        self._known[key] = entry


def _make_room(entries: OrderedDict[Key, RecentPublish], limit: int, oldest: float) -> None:
    """Makes room for one more, and drops entries from before `oldest`: at most two, so that age never costs in bulk."""
    for _ in range(2):
        key = next(iter(entries), None)
        if key is None or (len(entries) < limit and entries[key].at >= oldest):
            return
        entries.popitem(last=False)
