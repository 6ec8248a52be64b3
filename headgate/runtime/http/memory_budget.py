"""The bytes that requests hold while they are answered: bounded for all together, and for each user."""

from types import TracebackType
from typing import Final, Self

from headgate.core.wire.errors import Refusal

REQUEST_BYTES: Final = 16 * 1024  # one without its body: head, buffers, tasks
ALL_BYTES: Final = 256 * 1024 * 1024
USER_BYTES: Final = 128 * 1024 * 1024  # three of the largest batches, each of which counts five times


class MemoryBudget:
    """At most `max_bytes` for all requests that are being answered, `max_user_bytes` for those of one user."""

    def __init__(self, max_bytes: int = ALL_BYTES, max_user_bytes: int = USER_BYTES) -> None:
        self.size = 0
        self.by_user: dict[str, int] = {}  # without users who hold nothing
        self._max_bytes = max_bytes
        self._max_user_bytes = max_user_bytes
        self.bound = min(max_bytes, max_user_bytes)  # of one request

    def share(self) -> "Share":
        """Returns the share of one request; it is given back at the end of its `with`."""
        return Share(self)

    def take(self, user: str, size: int, held: int = 0) -> None:
        """Counts `size` bytes of a request that has `held` already. Raises Refusal as `check` does."""
        self.check(user, size, held)
        self.by_user[user] = self.by_user.get(user, 0) + size
        self.size += size

    def check(self, user: str, size: int, held: int = 0) -> None:
        """Raises Refusal `overloaded` where `size` bytes more would be too many.

        Where this request alone is above a bound no waiting helps: `too_large`.
        """
        if held + size > self.bound:
            raise Refusal("too_large", f"the request and its answer are above {self.bound} bytes; ask for or send less")
        if self.size + size > self._max_bytes:
            raise Refusal("overloaded", "too many requests are being answered; try again later")
        if self.by_user.get(user, 0) + size > self._max_user_bytes:
            raise Refusal("overloaded", "too many of your requests are being answered; wait for their answers")

    def give_back(self, user: str, size: int) -> None:
        """Ends what `take` counted."""
        self.size -= size
        left = self.by_user[user] - size
        if left:
            self.by_user[user] = left
        else:
            del self.by_user[user]


class Share:
    """The bytes of one request: its body, the pages it gathers, its answer until the socket has it."""

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
        """Begins: the request is `user`'s and announces so many bytes. Raises Refusal as `MemoryBudget.take` does."""
        self._user = user
        self.grow(REQUEST_BYTES + body_bytes)

    def hold(self, body_bytes: int) -> None:
        """Has so many bytes of the body by now: takes what was not announced. Raises Refusal as `grow` does."""
        missing = REQUEST_BYTES + body_bytes - self.size
        if missing > 0:
            self.grow(missing)

    def grow(self, size: int) -> None:
        """Takes `size` bytes more. Raises Refusal as `MemoryBudget.take` does."""
        self._budget.take(self._user, size, self.size)
        self.size += size

    def require_room(self, size: int) -> None:
        """Takes nothing. Raises Refusal `overloaded` where `size` bytes, or half of the bound, could not be taken."""
        self._budget.check(self._user, min(size, self._budget.bound // 2), 0)
