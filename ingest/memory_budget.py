"""How many bytes all requests together, and those of one user, may hold; knows neither requests nor answers."""

from types import TracebackType
from typing import Final, Self

from headgate.core.wire.errors import Refusal

REQUEST_BYTES: Final = 16 * 1024  # one without its body: head, buffers, tasks


class MemoryBudget:
    """The sums; `max_bytes` of all requests that are being answered, `max_user_bytes` of those of one user."""

    def __init__(self, max_bytes: int, max_user_bytes: int) -> None:
        self.size = 0
        self.by_user: dict[str, int] = {}  # of those who hold anything
        self._max_bytes = max_bytes
        self._max_user_bytes = max_user_bytes

    def share(self) -> "Share":
        """Returns the share of one request; it is given back at the end of its `with`."""
        return Share(self)

    def take(self, user: str, size: int) -> None:
        """Counts `size` bytes. Raises Refusal `overloaded` where there would be too many."""
        of_user = self.by_user.get(user, 0) + size
        if self.size + size > self._max_bytes:
            raise Refusal("overloaded", "too many requests are being answered; try again later")
        if of_user > self._max_user_bytes:
            raise Refusal("overloaded", "too many of your requests are being answered; wait for their answers")
        self.by_user[user] = of_user
        self.size += size

    def give_back(self, user: str, size: int) -> None:
        """Ends what `take` counted."""
        self.size -= size
        left = self.by_user[user] - size
        if left:
            self.by_user[user] = left
        else:
            del self.by_user[user]


class Share:
    """What one request holds: its body, the pages it gathers, its answer until the socket has it."""

    __slots__ = ("_held", "_user", "size")

    def __init__(self, held: MemoryBudget) -> None:
        self._held = held
        self._user = ""
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size:
            self._held.give_back(self._user, self.size)
            self.size = 0

    def open(self, user: str, body_bytes: int) -> None:
        """Begins: the request is `user`'s and announces so many bytes. Raises Refusal `overloaded`."""
        self._user = user
        self.grow(REQUEST_BYTES + body_bytes)

    def hold(self, body_bytes: int) -> None:
        """Has so many bytes of the body by now: takes what was not announced. Raises Refusal `overloaded`."""
        missing = REQUEST_BYTES + body_bytes - self.size
        if missing > 0:
            self.grow(missing)

    def grow(self, size: int) -> None:
        """Takes `size` bytes more. Raises Refusal `overloaded`."""
        self._held.take(self._user, size)
        self.size += size
