"""Retry policies: whether to try again, and how long to wait. Random numbers are handed in."""

from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec

from headgate.core.wire.topic_settings import DEFAULT_RETRY

Draw = Callable[[], float]  # a source of random floats in [0, 1)

_MOST_DOUBLINGS: Final = 62  # beyond it 2 ** n is above every max_ms and only costs time


def no_jitter() -> float:
    """Returns 0: nothing is taken off a delay."""
    return 0.0


class RetryPolicy(Protocol):
    """A delivery asks it after a failure. `attempts` counts tries made, the first included."""

    def should_retry(self, attempts: int) -> bool:
        """Returns whether there is another try after `attempts` of them."""

    def compute_delay(self, attempts: int, draw: Draw = no_jitter) -> float:
        """Returns the seconds to wait after try number `attempts` (from 1)."""


class SimpleRetryPolicy(msgspec.Struct, frozen=True):
    """Waits attempt x `backoff_factor` seconds: 0.25, 0.5, ...

    Raises ValueError for `max_attempts` below 1 or a negative `backoff_factor`.
    """

    max_attempts: int = 3
    backoff_factor: float = 0.25

    def __post_init__(self) -> None:
        _check(self.max_attempts, self.backoff_factor)

    def should_retry(self, attempts: int) -> bool:
        """Returns whether there is another try."""
        return attempts < self.max_attempts

    def compute_delay(self, attempts: int, draw: Draw = no_jitter) -> float:
        """Returns attempts x backoff_factor, in seconds."""
        return attempts * self.backoff_factor


class BackoffPolicy(msgspec.Struct, frozen=True):
    """A topic's `retry` setting (docs/protocol.md, section 2); `msgspec.convert` makes one from the JSON.

    The delay in milliseconds is `first_ms` (fixed), `first_ms` x attempt (linear) or `first_ms` x 2^(attempt - 1)
    (exponential), at most `max_ms`. Then up to the share `jitter` (0 to 1) of it is taken off at random, so that
    subscribers which failed together do not come back together. Raises ValueError for a value out of range.
    """

    max_attempts: int = DEFAULT_RETRY["max_attempts"]
    kind: Literal["exponential", "fixed", "linear"] = DEFAULT_RETRY["kind"]
    first_ms: float = DEFAULT_RETRY["first_ms"]
    max_ms: float = DEFAULT_RETRY["max_ms"]
    jitter: float = DEFAULT_RETRY["jitter"]

    def __post_init__(self) -> None:
        _check(self.max_attempts, self.first_ms)
        if self.max_ms < self.first_ms:
            raise ValueError(f"max_ms is {self.max_ms}, expected at least first_ms, {self.first_ms}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is {self.jitter}, expected 0 to 1")

    def should_retry(self, attempts: int) -> bool:
        """Returns whether there is another try."""
        return attempts < self.max_attempts

    def compute_delay(self, attempts: int, draw: Draw = no_jitter) -> float:
        """Returns seconds; `draw` is called once, and only when there is jitter."""
        growth = 1
        if self.kind == "linear":
            growth = attempts
        elif self.kind == "exponential":
            growth = 1 << min(attempts - 1, _MOST_DOUBLINGS)
        delay_ms = min(self.max_ms, self.first_ms * growth)
        if self.jitter:
            delay_ms *= 1 - self.jitter * draw()
        return delay_ms / 1000


_LONGEST: Final[float] = DEFAULT_RETRY["max_ms"] / 1000  # seconds


def fixed(max_attempts: int = 3, delay: float = 1.0, jitter: float = 0.0) -> BackoffPolicy:
    """Returns a policy that waits `delay` seconds each time."""
    delay_ms = delay * 1000
    return BackoffPolicy(max_attempts, "fixed", delay_ms, delay_ms, jitter)


def linear(max_attempts: int = 3, step: float = 1.0, longest: float = _LONGEST, jitter: float = 0.0) -> BackoffPolicy:
    """Returns a policy that waits `step` seconds more each time, at most `longest`."""
    return BackoffPolicy(max_attempts, "linear", step * 1000, longest * 1000, jitter)


def exponential(
    max_attempts: int = DEFAULT_RETRY["max_attempts"],
    first: float = DEFAULT_RETRY["first_ms"] / 1000,
    longest: float = _LONGEST,
    jitter: float = DEFAULT_RETRY["jitter"],
) -> BackoffPolicy:
    """Returns a policy that doubles its wait from `first` seconds, at most `longest`."""
    return BackoffPolicy(max_attempts, "exponential", first * 1000, longest * 1000, jitter)


def _check(max_attempts: int, wait: float) -> None:
    if max_attempts < 1:
        raise ValueError(f"max_attempts is {max_attempts}, expected at least 1: the first try counts")
    if wait < 0:
        raise ValueError(f"a wait of {wait}, expected 0 or more")
