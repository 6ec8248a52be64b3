"""How fast and how evenly clients are back after a loss, from the lines that they wrote."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

WINDOW_MS = 100


class Reconnects(NamedTuple):
    """One fault.

    `lost` clients lost their connection. `p95_s` and `longest_s`: from the fault until their topic was granted again.
    `share` is the largest part of all clients, and `share_of_lost` that of those who lost their connection, who began
    an attempt to connect within any 100 ms.
    """

    lost: int
    p95_s: float
    longest_s: float
    share: float
    share_of_lost: float

    def __str__(self) -> str:
        return (
            f"{self.lost} connections lost, back p95 {self.p95_s:.2f} s, longest {self.longest_s:.2f} s; attempts in "
            f"any 100 ms: at most {self.share:.1%} of all clients ({self.share_of_lost:.1%} of those who lost theirs)"
        )


def reconnects(lines: Sequence[dict[str, Any]], since_ms: float, until_ms: float, clients: int) -> Reconnects:
    """Returns what happened to connections in a span that begins with a fault. `lines` are `state` and `subscribed`."""
    lost: set[str] = set()
    back: dict[str, float] = {}
    attempts: list[float] = []
    for line in lines:
        who, at = line["who"], line["at"]
        if not since_ms <= at < until_ms:
            continue
        if line.get("state") == "waiting" and who not in back:
            lost.add(who)
        elif line.get("state") == "opening" and who in lost:
            attempts.append(at)
        elif line["on"] == "subscribed" and who in lost:
            back.setdefault(who, at)
    if not lost:
        return Reconnects(0, 0.0, 0.0, 0.0, 0.0)
    took = [(back.get(who, float("inf")) - since_ms) / 1_000 for who in lost]
    took.sort()
    attempts.sort()
    most = max((bisect_left(attempts, at + WINDOW_MS) - place for place, at in enumerate(attempts)), default=0)
    return Reconnects(len(lost), took[int(len(took) * 0.95)], took[-1], most / clients, most / len(lost))
