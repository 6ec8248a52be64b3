"""Defects that showed with one session while others were served: kept for the shell, which logs them."""

from types import TracebackType
from typing import Final

KEPT: Final = 100  # between two calls of `take`


class Faults:
    """As a context manager it stops an exception and keeps it, so that the next session has its turn."""

    def __init__(self) -> None:
        self._kept: list[Exception] = []
        self._left_out = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, Exception):
            self.note(error)
            return True
        return False

    def note(self, error: Exception) -> None:
        """Keeps a defect; above the bound it is counted only."""
        if len(self._kept) < KEPT:
            self._kept.append(error)
        else:
            self._left_out += 1

    def take(self) -> tuple[list[Exception], int]:
        """Returns what was noted since the last call, and how many more there were."""
        found, self._kept = self._kept, []
        more, self._left_out = self._left_out, 0
        return found, more
