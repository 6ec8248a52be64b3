"""How many bytes all requests together may hold, and the share of each; knows neither requests nor answers."""

from types import TracebackType
from typing import Final, Self

from headgate.core.errors import Refusal

MAX_HELD_BYTES: Final = 256 * 1024 * 1024  # of all requests that are being answered; above it 503 overloaded
REQUEST_BYTES: Final = 16 * 1024  # one without its body: head, buffers, tasks


class Held:
    """The sum."""

    def __init__(self) -> None:
        self.size = 0

    def share(self) -> "Share":
        """Returns the share of one request; it is given back at the end of its `with`."""
        return Share(self)


class Share:
    """What one request holds: its body, the pages it gathers, its answer until the socket has it."""

    __slots__ = ("_held", "size")

    def __init__(self, held: Held) -> None:
        self._held = held
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.size -= self.size
        self.size = 0

    def grow(self, size: int) -> None:
        """Takes `size` bytes more. Raises Refusal `overloaded` when all requests together would hold too many."""
        if self._held.size + size > MAX_HELD_BYTES:
            raise Refusal("overloaded", "too many requests are being answered; try again later")
        self._held.size += size
        self.size += size
