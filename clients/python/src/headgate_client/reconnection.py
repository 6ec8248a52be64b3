"""What a closed connection means, and how long to wait before the next one. Pure."""

from collections.abc import Callable
from typing import Final, Literal

Action = Literal["stop", "backoff", "now"]

# docs/protocol.md, section 4, "Close codes": the class alone says it.
CLASSES: Final[dict[int, Action]] = {44: "stop", 45: "backoff", 46: "now"}
CODES: Final[dict[int, Action]] = {1002: "stop", 1007: "stop", 1009: "stop"}  # an error that would come again
LOST: Final = 1006  # no close frame came (RFC 6455, section 7.1.5)
UNAUTHENTICATED: Final = 4401
TOKEN_EXPIRED: Final = 4610

FIRST_WAIT_S: Final = 2.2  # spreads the clients of a gateway that died: a 22nd of them in 100 ms
LONGEST_WAIT_S: Final = 30.0


def after_close(code: int, *, reconnect: bool | None = None) -> Action:
    """Returns what to do after a close code. `reconnect` is that of the `disconnect` frame, if there was one."""
    if reconnect is False:
        return "stop"
    return CODES.get(code) or CLASSES.get(code // 100, "backoff")


class Backoff:
    """Growing waits with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

    def __init__(self, random: Callable[[], float], first_s: float = FIRST_WAIT_S) -> None:
        """`random` returns a number from 0 to 1."""
        self._random = random
        self._first_s = first_s
        self._ceiling_s = first_s

    def reset(self) -> None:
        """It worked: begin again with the shortest wait."""
        self._ceiling_s = self._first_s

    def next_s(self, at_least_ms: int | None = None) -> float:
        """Returns how long to wait (s), never less than the server asked for."""
        wait = self._random() * self._ceiling_s
        self._ceiling_s = min(self._ceiling_s * 2, LONGEST_WAIT_S)
        return (at_least_ms or 0) / 1_000 + wait
