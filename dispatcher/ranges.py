"""Sets of offsets as values: disjoint half-open ranges, ascending."""

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
    """Returns the parts of the ranges that are not below `low`."""
    return [(max(begin, low), end) for begin, end in ranges if end > low]


def missing(ranges: Sequence[Range], low: int, high: int) -> list[Range]:
    """Returns the parts of [low, high) that are in none of the ranges, ascending."""
    gaps: list[Range] = []
    for begin, end in ranges:
        if begin >= high:
            break
        if begin > low:
            gaps.append((low, begin))
        low = max(low, end)
    if low < high:
        gaps.append((low, high))
    return gaps
