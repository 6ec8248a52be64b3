"""The time by which the owner of a shard forgets what is old: a clock that is ahead must not delete anything."""

import asyncio

from headgate.core.sequencer.apply import LOG_TIME_STEP_MS
from headgate.runtime.ports import Clock, Log


class ShardTime:
    """The log time of a shard, which goes on by the monotonic clock where no record comes.

    It may be behind, after a shard was restored that had no records for long: then things are kept for longer. It is
    never ahead of the wall clock. A record moves it by LOG_TIME_STEP_MS at most, as in `apply`. A log that this process
    stamps itself moves it until the shard is `live` only: later records would say what the wall clock says.
    """

    def __init__(self, log: Log, log_ms: int, live: asyncio.Event, clock: Clock) -> None:
        self._log = log
        self._live = live
        self._clock = clock
        self._ms, self._at = log_ms, clock.now()

    def read(self, ts: int, records: int) -> None:
        """Some records were read, of which the last was appended at `ts` (Unix milliseconds)."""
        if self._log.own_clock and self._live.is_set():
            return
        known = self._log_ms()
        if ts > known:
            self._ms = min(ts, known + records * LOG_TIME_STEP_MS) if self._ms else ts
            self._at = self._clock.now()

    def ms(self) -> int:
        """Returns Unix milliseconds; what is older by them is old."""
        return min(self._clock.wall_ms(), self._log_ms())

    def stamp_ms(self) -> int:
        """Returns the time to write down for something that happens now: it is not old at once by `ms`."""
        return max(self._clock.wall_ms(), self._log_ms())

    def latest_ms(self) -> int:
        """Returns Unix milliseconds; a record of later was stamped by a clock that was ahead of the present one."""
        return self._clock.wall_ms()

    def _log_ms(self) -> int:
        return self._ms + int((self._clock.now() - self._at) * 1_000)
