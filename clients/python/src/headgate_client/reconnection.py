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

FIRST_WAIT_S: Final = 2.8  # spreads the clients of a gateway that died: a 28th of them in 100 ms, 19 of 20 in 2.7 s
LONGEST_WAIT_S: Final = 30.0
STABLE_S: Final = 10.0  # after a connection of this length the windows begin anew
AT_ONCE_AFTER_S: Final = 1.0  # a server that ends connections at once is not asked again at once


def after_close(code: int, *, reconnect: bool | None = None) -> Action:
    """Returns what to do after a close code. `reconnect` is that of the `disconnect` frame, if there was one."""
    if reconnect is False:
        return "stop"
    return CODES.get(code) or CLASSES.get(code // 100, "backoff")


class Backoff:
    """Growing waits with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

    def __init__(self, random: Callable[[], float], first_s: float = FIRST_WAIT_S, *, tries: int = 1) -> None:
        """`random` returns a number from 0 to 1. `tries` waits have the same window: one for each address."""
        self._random = random
        self._first_s = first_s
        self._tries = tries
        self._failures = 0
        self._jitter: float | None = None

    def spread(self, jitter: object) -> None:
        """The next wait is this part of its window, where the server told one (`welcome`): it spreads its clients."""
        self._jitter = jitter if isinstance(jitter, (int, float)) else None

    def reset(self) -> None:
        """It worked: begin again with the shortest wait."""
        self._failures = 0

    def next_s(self, at_least_ms: int | None = None) -> float:
        """Returns how long to wait (s), never less than the server asked for."""
        doublings = min(self._failures // self._tries, 30)
        self._failures += 1
        window = min(self._first_s * 2**doublings, LONGEST_WAIT_S)
        part, self._jitter = self._random() if self._jitter is None else self._jitter, None
        return float((at_least_ms or 0) / 1_000 + part * window)
