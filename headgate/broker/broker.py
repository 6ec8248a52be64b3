"""The in-process broker that its user drives: nothing happens before `run_until_idle`, and time is an argument."""

import logging
import random
from typing import Any, Final, Unpack

from headgate.broker.base_broker import BaseBroker, Randomness, TopicOptions, describe, make_rules
from headgate.broker.lane import Attempt
from headgate.broker.message import NewMessage, PublishOptions, Receipt
from headgate.core.wire.errors import HeadgateError
from headgate.runtime.ports import Clock

MAX_TRIES: Final = 10_000_000  # in one run: a handler that publishes to its own topic would run without end
_log = logging.getLogger("headgate.broker")


class NotIdle(HeadgateError):
    """A run made MAX_TRIES tries and was not done: probably a handler publishes to its own topic."""


class Broker(BaseBroker):
    """A topic broker in one thread: `publish` queues messages, `run_until_idle` calls the handlers.

    Without a `clock` time starts at 0 and moves by `run_until_idle(now)` and `advance`, so retries and time limits need
    no waiting. The same calls with the same `rng` give the same events, byte for byte.
    """

    def __init__(
        self, *, clock: Clock | None = None, rng: Randomness | None = None, **settings: Unpack[TopicOptions]
    ) -> None:
        super().__init__(make_rules(settings), rng or random.Random(0))  # noqa: S311 - jitter is no secret
        self._clock = clock
        self._time = 0.0
        self._running = False

    @property
    def now(self) -> float:
        """The broker's time, in seconds."""
        return self._now()

    def publish(self, topic: str, payload: Any, **options: Unpack[PublishOptions]) -> Receipt:
        """Queues a message and returns at once; no handler is called.

        Messages with the same `key` stay in order within a group; a second message with the same `dedup_key` is a
        duplicate and is not queued; `trace` is handed on. Raises Refusal `queue_full` when the topic is full (also with
        the policy `block`: nobody can wait here), `invalid_topic_id` and `limit_reached`.
        """
        try:
            return self._engine.publish(topic, NewMessage(payload, **options), self._now())
        finally:
            self._changed()

    def run_until_idle(self, now: float | None = None) -> int:
        """Delivers everything that is due until `now` (seconds), with each retry and time limit at its own time.

        Without `now`: everything that is due at this moment. Returns the number of tries. Raises NotIdle.
        """
        if self._running:
            raise HeadgateError("run_until_idle was called from a handler or listener; just publish there")
        self._running = True
        try:
            return self._run(now)
        finally:
            self._running = False

    def advance(self, seconds: float) -> int:
        """Moves time by `seconds` and delivers everything that is due meanwhile; returns the number of tries."""
        return self.run_until_idle(self._now() + seconds)

    def next_due(self) -> float | None:
        """Returns the time of the next retry, time limit or arrival; None when there is none."""
        return self._engine.next_due()

    def _run(self, until: float | None) -> int:
        tries = 0
        while True:
            now = self._now()
            attempt = self._engine.next_attempt(now)
            self._changed()
            if attempt is not None:
                self._try(attempt)
                tries += 1
                if tries > MAX_TRIES:
                    raise NotIdle(f"{tries} tries and still not idle; does a handler publish to its own topic?")
                continue
            limit = now if until is None else until
            due = self._engine.next_due()
            if due is None or due > limit:
                break
            self._time = max(now, due)
        self._time = max(self._time, limit)
        return tries

    def _try(self, attempt: Attempt) -> None:
        error: str | None = None
        try:
            result = attempt.lane.subscriber.handle(attempt.message)
            if result is not None and hasattr(result, "__await__"):
                raise TypeError("the handler returned an awaitable; that needs AsyncBroker")
        except Exception as problem:  # a handler's fault is an outcome
            error = describe(problem)
            _log.info("%s failed on message %d", attempt.lane.name, attempt.message.id, exc_info=True)
        self._finish(attempt, error)

    def _now(self) -> float:
        if self._clock is not None:
            self._time = max(self._time, self._clock.now())
        return self._time


_default: list[Broker] = []


def default_broker() -> Broker:
    """Returns the default broker of this process, for demonstrations and a Python prompt. Other code makes its own."""
    if not _default:
        _default.append(Broker())
    return _default[0]


def reset_default_broker(**settings: Unpack[TopicOptions]) -> Broker:
    """Replaces the default broker by a new one and returns it."""
    _default[:] = [Broker(**settings)]
    return _default[0]
