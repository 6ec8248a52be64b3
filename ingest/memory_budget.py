"""A bound on the bytes that all requests together, and those of one user, may hold."""

from types import TracebackType
from typing import Final, Self

from headgate.core.wire.errors import Refusal

REQUEST_BYTES: Final = 16 * 1024  # of a request without its body: head, buffers, tasks


class MemoryBudget:
    """Counts bytes: at most `max_bytes` of all requests being answered, `max_user_bytes` of those of one user."""

    def __init__(self, max_bytes: int, max_user_bytes: int) -> None:
        self.size = 0
        self.by_user: dict[str, int] = {}  # only users who hold some
        self._max_bytes = max_bytes
        self._max_user_bytes = max_user_bytes

    def share(self) -> "Share":
        """Returns the share of one request; it is given back at the end of its `with`."""
        return Share(self)

    def take(self, user: str, size: int) -> None:
        """Adds `size` bytes. Raises Refusal `overloaded`, and adds none, where that would be too many."""
        of_user = self.by_user.get(user, 0) + size
        if self.size + size > self._max_bytes:
            raise Refusal("overloaded", "too many requests are being answered; try again later")
        if of_user > self._max_user_bytes:
            raise Refusal("overloaded", "too many of your requests are being answered; wait for their answers")
        self.by_user[user] = of_user
        self.size += size

    def give_back(self, user: str, size: int) -> None:
        """Subtracts bytes that `take` added."""
        self.size -= size
        left = self.by_user[user] - size
        if left:
            self.by_user[user] = left
        else:
            del self.by_user[user]


class Share:
    """The bytes of one request: its body, the pages it gathers, its answer until the socket has taken it."""

    __slots__ = ("_budget", "_user", "size")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._user = ""
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size:
            self._budget.give_back(self._user, self.size)
            self.size = 0

    def open(self, user: str, body_bytes: int) -> None:
        """Takes the bytes of a request of `user` that announces `body_bytes`. Raises Refusal `overloaded`."""
        self._user = user
        self.grow(REQUEST_BYTES + body_bytes)

    def hold(self, body_bytes: int) -> None:
        """Takes what `body_bytes`, received so far, have beyond the announced ones. Raises Refusal `overloaded`."""
        missing = REQUEST_BYTES + body_bytes - self.size
        if missing > 0:
            self.grow(missing)

    def grow(self, size: int) -> None:
        """Takes `size` more bytes. Raises Refusal `overloaded`."""
        self._budget.take(self._user, size)
        self.size += size
