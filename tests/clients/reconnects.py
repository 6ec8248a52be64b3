"""How fast and how evenly clients are back after a loss, from the lines that they wrote."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

BIN_MS = 100


class Reconnects(NamedTuple):
    """One fault: how many clients lost their connection, the p95 in seconds of the time until they were open again,
    and the largest share of them that came back within one 100 ms."""

    clients: int
    p95_s: float
    largest_share: float


def reconnects(states: Sequence[dict[str, Any]], since_ms: float, until_ms: float) -> Reconnects:
    """Returns what happened to connections that were lost in a span of time. `states` are lines of the kind `state`."""
    lost: dict[str, float] = {}
    back: dict[str, float] = {}
    for line in states:
        who, at = line["who"], line["at"]
        if line["state"] == "waiting" and since_ms <= at < until_ms:
            lost.setdefault(who, at)
        if line["state"] == "open" and who in lost:
            back.setdefault(who, at)
    took = sorted(back[who] - at for who, at in lost.items() if who in back)
    if not took:
        return Reconnects(len(lost), float("inf") if lost else 0.0, 0.0)
    bins = Counter(int(at // BIN_MS) for at in back.values())
    p95 = took[min(int(len(took) * 0.95), len(took) - 1)]
    return Reconnects(len(lost), p95 / 1000, max(bins.values()) / len(took))
