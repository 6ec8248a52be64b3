"""Which offsets are held: disjoint half-open ranges, ascending, as values; knows nothing of what stands there."""

from collections.abc import Iterable, Sequence

Range = tuple[int, int]  # [low, high)


def joined(ranges: Iterable[Range], low: int, high: int) -> list[Range]:
    """Returns the ranges with [low, high) added; neighbours become one."""
    kept: list[Range] = []
    for begin, end in ranges:
        if end < low or begin > high:
            kept.append((begin, end))
        else:
            low, high = min(low, begin), max(high, end)
    if low < high:
        kept.append((low, high))
    return sorted(kept)


def cut(ranges: Iterable[Range], low: int) -> list[Range]:
    """Returns what of the ranges is not below `low`."""
    return [(max(begin, low), end) for begin, end in ranges if end > low]


def missing(ranges: Sequence[Range], low: int, high: int) -> list[Range]:
    """Returns what of [low, high) is in none of the ranges, ascending."""
    holes: list[Range] = []
    for begin, end in ranges:
        if begin >= high:
            break
        if begin > low:
            holes.append((low, begin))
        low = max(low, end)
    if low < high:
        holes.append((low, high))
    return holes
