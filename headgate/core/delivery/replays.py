"""Dead letters that are replayed to one subscriber: each message is acknowledged and fails by its own number alone."""

from collections import deque
from typing import Final

from headgate.core.delivery.ack_window import NO_ANSWER, Failure, Ignored
from headgate.core.delivery.delivery import Delivery, Status
from headgate.core.delivery.retry import Draw, RetryPolicy, no_jitter

REPLAYS: Final = 16  # of one subscriber at a time: each may be fetched again for a retry
_DONE: Final = 4 * REPLAYS  # the owner may send again what was on its way when more were asked for


class _Replay:
    __slots__ = ("delivery", "letter_id", "timeout_at")

    def __init__(self, letter_id: str) -> None:
        self.letter_id = letter_id
        self.delivery = Delivery()
        self.delivery.enqueue()
        self.timeout_at: float | None = None


class Replays:
    """The replays of one subscriber that are not done; at most REPLAYS. Times are seconds on the caller's clock."""

    __slots__ = ("_done", "_replays", "policy", "turned_away")

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.turned_away = False  # others wait at the topic's owner until some of these are done
        self._replays: dict[int, _Replay] = {}
        self._done: deque[str] = deque(maxlen=_DONE)

    def __contains__(self, seq: int) -> bool:
        return seq in self._replays

    def __len__(self) -> int:
        return len(self._replays)

    def add(self, seq: int, letter_id: str) -> bool:
        """Takes a message that is replayed; false where it is here already, or there are too many."""
        if seq in self._replays:
            return False
        if len(self._replays) >= REPLAYS:
            self.turned_away = True
            return False
        self._replays[seq] = _Replay(letter_id)
        return True

    def ready(self, now: float) -> list[int]:
        """Returns the messages that are to be sent now."""
        return [seq for seq, each in self._replays.items() if _is_ready(each.delivery, now)]

    def send(self, seq: int, now: float, draw: Draw = no_jitter) -> int:
        """Notes that a message is sent; returns its attempt, 0 where it is not to be sent now."""
        replay = self._replays.get(seq)
        if replay is None or not _is_ready(replay.delivery, now):
            return 0
        delivery = replay.delivery
        if delivery.status is Status.RETRY_SCHEDULED:
            delivery.requeue(now)
        delivery.start()
        replay.timeout_at = now + self.policy.compute_delay(delivery.attempts, draw)
        return delivery.attempts

    def ack(self, seq: int) -> str | None:
        """Takes an acknowledgement; returns the id of the dead letter that is done, None where there is none."""
        replay = self._replays.get(seq)
        if replay is None or replay.delivery.status is Status.DEAD_LETTER:
            return None
        del self._replays[seq]
        self._done.append(replay.letter_id)
        return replay.letter_id

    def is_done(self, letter_id: str) -> bool:
        """Returns whether a message was acknowledged a short while ago: its owner may not know it yet."""
        return letter_id in self._done

    def attempts(self, seq: int) -> int:
        """Returns how often a message was sent."""
        return self._replays[seq].delivery.attempts

    def nack(self, seq: int, reason: str, now: float, draw: Draw = no_jitter) -> Failure | Ignored:
        """Takes a refusal."""
        replay = self._replays.get(seq)
        if replay is None or replay.delivery.status is not Status.DELIVERING:
            return Ignored.DONE
        return self._fail(seq, replay, reason, now, draw)

    def visit(self, now: float, draw: Draw = no_jitter) -> list[Failure]:
        """Returns what has failed because no acknowledgement came in time."""
        late = [(seq, each) for seq, each in self._replays.items() if each.timeout_at is not None]
        return [
            self._fail(seq, each, NO_ANSWER, now, draw, waited=True)
            for seq, each in late
            if each.timeout_at is not None and each.timeout_at <= now
        ]

    def giving_up(self) -> list[Failure]:
        """Returns the messages that wait until they are dead letters again."""
        return [
            Failure(seq, each.delivery.attempts, each.delivery.last_error, True)
            for seq, each in self._replays.items()
            if each.delivery.status is Status.DEAD_LETTER
        ]

    def remove(self, seq: int) -> None:
        """Forgets a message: it is a dead letter again."""
        self._replays.pop(seq, None)

    def due(self, now: float) -> float | None:
        """Returns the time at which to call `visit` or `ready`, or None."""
        dues = [each.timeout_at for each in self._replays.values()]
        retries = [each.delivery.due for each in self._replays.values()]
        ahead = [due for due in retries if due is not None and due > now]
        return min([due for due in dues if due is not None] + ahead, default=None)

    def _fail(self, seq: int, replay: _Replay, error: str, now: float, draw: Draw, *, waited: bool = False) -> Failure:
        replay.timeout_at = None
        replay.delivery.fail(error)
        delay = replay.delivery.resolve(self.policy, now, draw, waited=waited)
        return Failure(seq, replay.delivery.attempts, replay.delivery.last_error, delay is None, delay or 0.0)


def _is_ready(delivery: Delivery, now: float) -> bool:
    if delivery.status is Status.RETRY_SCHEDULED:
        return delivery.due is None or delivery.due <= now
    return delivery.status is Status.QUEUED
