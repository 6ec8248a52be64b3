"""Opens the log and checks every second that it answers: the readiness check `log`."""

import asyncio
from typing import Final

import structlog

from headgate.core.wire.records import LogName
from headgate.runtime.logging import Reminder
from headgate.runtime.ports import Clock, Log, LogError

logger = structlog.get_logger("log")

OPEN_RETRY_S: Final = 1.0
CHECK_S: Final = 1.0
ANSWER_S: Final = 3.0  # a metadata request takes milliseconds; a frozen broker never answers
MISSES: Final = 2
SILENT_S: Final = 1.5  # without an answer: one question has failed, or waits


class LogWatch:
    """`run` is its task. `opened` is set once the log was reached; `why` is the readiness check."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self.opened = asyncio.Event()
        self._log = log
        self._clock = clock
        self._answered_at = float("-inf")
        self._misses = 0
        self._shard = 0  # that is asked; the next one after a miss, so that one part without a leader is not the log
        self._reason: str | None = "the log has not been reached yet"
        self._reminder = Reminder(clock.now)

    def why(self) -> str | None:
        """Returns None while the log answers, else one sentence."""
        return self._reason

    def is_silent(self) -> bool:
        """Whether it has not answered for a moment: no fault by itself, but what refuses appends then is the log."""
        return self._clock.now() - self._answered_at > SILENT_S

    def found(self) -> None:
        """Notes that the log is open."""
        self.opened.set()
        self._answered()

    async def run(self) -> None:
        """Opens the log, trying again for ever, then asks it for its bounds once a second."""
        while not self.opened.is_set():
            try:
                await self._log.open()
                self.found()
            except LogError as error:
                self._away(str(error))
                await asyncio.sleep(OPEN_RETRY_S)
        while True:
            await asyncio.sleep(CHECK_S)
            await self._check()

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._log.bounds(LogName.MESSAGES, self._shard)
            if self._reason is not None:
                logger.info("the log answers again", address=self._log.address)
            self._answered()
        except (LogError, TimeoutError) as error:
            self._misses += 1
            self._shard = (self._shard + 1) % self._log.shards
            if self._misses >= MISSES:
                self._away(str(error) or "no answer")

    def _answered(self) -> None:
        self._misses = 0
        self._reason = None
        self._answered_at = self._clock.now()

    def _away(self, why: str) -> None:
        self._reason = f"{self._log.address} cannot be reached: {why}"
        if self._reminder.is_due():
            logger.warning("the log cannot be reached", address=self._log.address, why=why)
