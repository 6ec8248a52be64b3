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


class LogWatch:
    """`run` is its task. `opened` is set once the log was reached; `why` is the readiness check."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self.opened = asyncio.Event()
        self._log = log
        self._misses = 0
        self._shard = 0  # that is asked; the next one after a miss, so that one part without a leader is not the log
        self._reason: str | None = "the log has not been reached yet"
        self._reminder = Reminder(clock.now)

    def why(self) -> str | None:
        """Returns None while the log answers, else one sentence."""
        return self._reason

    def found(self) -> None:
        """Notes that the log is open."""
        self.opened.set()
        self._reason = None

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
            self._misses = 0
            if self._reason is not None:
                logger.info("the log answers again", address=self._log.address)
            self._reason = None
        except (LogError, TimeoutError) as error:
            self._misses += 1
            self._shard = (self._shard + 1) % self._log.shards
            if self._misses >= MISSES:
                self._away(str(error) or "no answer")

    def _away(self, why: str) -> None:
        self._reason = f"{self._log.address} cannot be reached: {why}"
        if self._reminder.is_due():
            logger.warning("the log cannot be reached", address=self._log.address, why=why)
