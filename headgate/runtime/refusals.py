"""A trace of refused callers (OWASP ASVS 16.3): one counted log line a code and interval; knows no transport."""

from collections.abc import Callable
from typing import Final

import structlog

logger = structlog.get_logger("refusals")

EVERY_S: Final = 10.0
DETAIL_CHARS: Final = 200  # of the one that is shown; a detail names what was seen, never a token


class RefusalLog:
    """Says the first refusal of each code at once, and the next after EVERY_S with how many there were between."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._said: dict[str, float] = {}  # bounded by the table of codes
        self._silent: dict[str, int] = {}

    def note(self, code: str, detail: str) -> None:
        """Takes one refusal."""
        now = self._now()
        last = self._said.get(code)
        if last is not None and now - last < EVERY_S:
            self._silent[code] = self._silent.get(code, 0) + 1
            return
        self._said[code] = now
        count = self._silent.pop(code, 0) + 1
        logger.warning("refused", code=code, count=count, last=detail[:DETAIL_CHARS])
