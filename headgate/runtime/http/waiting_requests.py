"""The bytes of the requests of one connection that wait for the answers before them."""

from collections import deque

from headgate.runtime.http.heads import HeadBudget


class WaitingRequests:
    """Counts them, head and body, in the budget of all connections of the port."""

    def __init__(self, budget: HeadBudget) -> None:
        self._budget = budget
        self._sizes: deque[int] = deque()  # oldest first

    def add(self, head_bytes: int) -> bool:
        """A request waits; false, and it is not counted, where all connections together have too much waiting."""
        if not self._budget.has_room(head_bytes):
            return False
        self._sizes.append(head_bytes)
        self._budget.waiting += head_bytes
        return True

    def grow(self, body_bytes: int) -> None:
        """More of the newest one's body came. It is read already, so it counts in any case."""
        self._sizes[-1] += body_bytes
        self._budget.waiting += body_bytes

    def drop_newest(self) -> None:
        """The newest one was refused."""
        self._budget.waiting -= self._sizes.pop()

    def keep(self, count: int) -> None:
        """Only the newest `count` still wait."""
        while len(self._sizes) > count:
            self._budget.waiting -= self._sizes.popleft()
