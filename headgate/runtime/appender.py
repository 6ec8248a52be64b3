"""Appends to the message log behind a circuit per shard.

Every append ends within APPEND_WAIT_S: with its place, or AppendUnknown when the log was silent that long, or at once
with LogUnavailable while its shard's circuit is open. A circuit is judged by the time in which this process would have
heard an answer: where its own loop was late, the answer may be waiting in it.
"""

import asyncio
import functools
from collections import deque
from typing import Final

import structlog

from headgate.core.publish.circuit import Circuit, Wave
from headgate.core.wire.control import PROBE_KEY, Probe, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.records import Appended, LogName
from headgate.runtime.logs.embedded import APPEND_WAIT_S, fail, failed
from headgate.runtime.ports import AppendUnknown, Clock, Log, LogUnavailable

TICK_S: Final = 0.1  # how often circuits are checked while appends are outstanding
LATE_S: Final = 0.2  # a look that comes so late was held up: its lateness is no silence of the log
PROBE: Final = encode_control(encode_body(Probe()), 0)

logger = structlog.get_logger("headgate.appender")


class _Appending:
    """The futures of one wave. The timer checks them: a callback for each would cost as much as the append."""

    __slots__ = ("futures", "wave")

    def __init__(self, wave: Wave) -> None:
        self.wave = wave
        self.futures: list[asyncio.Future[Appended]] = []

    def is_over(self) -> bool:
        """Returns whether all have ended. Drops ended futures from the back, so that the next check is O(1)."""
        futures = self.futures
        while futures and futures[-1].done():
            futures.pop()
        return not futures


class _Shard:
    """A shard's circuit and the appends that may have no answer yet, oldest first."""

    __slots__ = ("circuit", "waves")

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.waves: deque[_Appending] = deque()


class Appender:
    """All appends of a process to the message log. Starts no task; one timer runs while something is outstanding."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._shards: dict[int, _Shard] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer should fire
        self._stopped = False
        self._announced_open = False

    def append(self, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Hands a record to the shard's message log; the future ends as the module docstring describes. Never raises.

        A future that is cancelled counts as answered.
        """
        kept = self._shards.get(shard)
        if kept is None:
            kept = self._shards[shard] = _Shard()
        if not kept.circuit.passes or self._stopped:
            why = "is stopping" if self._stopped else f"did not answer for shard {shard}; it is being probed"
            return failed(LogUnavailable(f"{self._log.address} {why}"))
        future = self._log.append(LogName.MESSAGES, shard, key, value)
        if not future.done():
            self._watch(kept, future)
        return future

    def open_shards(self) -> list[int]:
        """Returns the shards whose circuit is open, for readiness and metrics."""
        return [shard for shard, kept in self._shards.items() if not kept.circuit.passes]

    async def stop(self) -> None:
        """Refuses new appends and waits until the outstanding ones have ended: at most APPEND_WAIT_S."""
        self._stopped = True
        waves = [appending for kept in self._shards.values() for appending in kept.waves]
        waiting = [future for appending in waves for future in appending.futures if not future.done()]
        if waiting:
            await asyncio.wait(waiting)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, kept: _Shard, future: "asyncio.Future[Appended]") -> None:
        wave = kept.circuit.began(self._clock.now())
        waves = kept.waves
        if not waves or waves[-1].wave is not wave:
            waves.append(_Appending(wave))
        waves[-1].futures.append(future)
        if self._timer is None:
            self._look_later()

    def _look_later(self) -> None:
        self._due = self._clock.now() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now = self._clock.now()
        late_s = now - self._due
        for shard, kept in self._shards.items():
            self._check(kept, now)
            if late_s > LATE_S:
                kept.circuit.excuse(late_s, now)
            if kept.circuit.tick(now) and not self._stopped:
                probe = self._log.append(LogName.MESSAGES, shard, PROBE_KEY, PROBE)
                probe.add_done_callback(functools.partial(_probed, kept.circuit))
        self._announce()
        self._timer = None
        if not all(kept.circuit.is_resting for kept in self._shards.values()):
            self._look_later()

    def _check(self, kept: _Shard, now: float) -> None:
        """Removes the waves that have ended, and fails the appends of those older than APPEND_WAIT_S."""
        waves = kept.waves
        while waves:
            appending = waves[0]
            if appending.wave.began + APPEND_WAIT_S <= now:
                for future in appending.futures:
                    fail(future, AppendUnknown(f"{self._log.address} gave no answer in {APPEND_WAIT_S:g} s"))
            if not appending.is_over():
                break
            waves.popleft()
            kept.circuit.ended(appending.wave)

    def _announce(self) -> None:
        open_shards = self.open_shards()
        if open_shards and not self._announced_open:
            logger.warning("%s does not answer; publishes to shards %s are refused", self._log.address, open_shards)
        if self._announced_open and not open_shards:
            logger.warning("%s answers again; all shards take publishes", self._log.address)
        self._announced_open = bool(open_shards)


def _probed(circuit: Circuit, probe: "asyncio.Future[Appended]") -> None:
    circuit.probed(acked=not probe.cancelled() and probe.exception() is None)
