"""The first of several shards together, out of the first of each."""

from collections.abc import Iterable

from headgate.core.wire.link_stats import TopEntry, TopLists


def merged(lists: Iterable[TopLists], size: int) -> TopLists:
    """Returns the first `size` of several shards. A topic and a user are in one of them only."""
    whole = list(lists)
    return TopLists(
        _first((each.members for each in whole), size),
        _first((each.messages for each in whole), size),
        _first((each.failures for each in whole), size),
        _first((each.backlogs for each in whole), size),
    )


def _first(parts: Iterable[list[TopEntry]], size: int) -> list[TopEntry]:
    return sorted((entry for part in parts for entry in part), key=lambda each: (-each.count, each.id))[:size]
