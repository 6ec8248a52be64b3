"""How long a task in the background waits before it tries again."""


class RetryDelay:
    """A wait after each failure, twice as long as the one before; it begins again once something `worked`."""

    def __init__(self, first_s: float) -> None:
        self._first_s = self._next_s = first_s

    def failed(self, most_s: float) -> float:
        """Returns how many seconds to wait now, at most `most_s`."""
        wait_s = min(self._next_s, most_s)
        self._next_s = wait_s * 2
        return wait_s

    def worked(self) -> None:
        """The next failure is the first again."""
        self._next_s = self._first_s
