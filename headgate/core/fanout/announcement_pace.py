"""When the owners are told what has changed among the users of this gateway (`UserAnnouncements`, `LocalUsers`).

The first change after a pause is told at the end of its loop turn. What changes within the next 2 ms waits for their
end and is told together: a loop turn has one or two connects, and a message for each would cost them a fifth more.
"""

from collections.abc import Callable
from typing import Final

PAUSE_S: Final = 0.002

Later = Callable[[float, Callable[[], None]], None]


class AnnouncementPace:
    """`schedule` asks the shell for a flush at the end of the turn; `later` has it call a function after so many s."""

    def __init__(self, schedule: Callable[[], None], later: Later) -> None:
        self._schedule = schedule
        self._later = later
        self._is_wanted = False
        self._is_pausing = False

    def want(self) -> None:
        """Something is to be told."""
        if not self._is_wanted:
            self._is_wanted = True
            if not self._is_pausing:
                self._schedule()

    def take(self) -> bool:
        """Returns whether to tell everything now; then a pause begins. Called at each flush."""
        if not self._is_wanted or self._is_pausing:
            return False
        self._is_wanted = False
        self._is_pausing = True
        self._later(PAUSE_S, self._end_pause)
        return True

    def _end_pause(self) -> None:
        self._is_pausing = False
        if self._is_wanted:
            self._schedule()
