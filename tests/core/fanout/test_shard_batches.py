"""Batches of what moved: by shard, of bounded size, and nothing is taken while an owner is away."""

from typing import Any, NamedTuple

from headgate.core.fanout.shard_batches import ShardBatches
from headgate.core.wire.link import Refused
from headgate.core.wire.link_inbox import MarksMoved, MoveMarks


class Thing(NamedTuple):
    name: str
    shard: int
    version: int = 1


class Upstream:
    """It keeps the requests; `away` are the shards without an owner."""

    def __init__(self) -> None:
        self.away: set[int] = set()
        self.asked: list[tuple[Any, Any]] = []

    def linked(self, shard: int) -> bool:
        return shard not in self.away

    def request(self, shard: int, build: Any, on_answer: Any) -> None:
        self.asked.append((build(len(self.asked)), on_answer))


class Bed:
    def __init__(self) -> None:
        self.upstream = Upstream()
        self.taken: list[str] = []
        self.stored: list[tuple[str, int, bool]] = []
        self.batches: ShardBatches[Thing] = ShardBatches(
            self.upstream,  # type: ignore[arg-type]
            2,
            self._take,
            MoveMarks,
            lambda thing, version, is_stored: self.stored.append((thing.name, version, is_stored)),
            MarksMoved,
        )

    def _take(self, thing: Thing) -> str:
        self.taken.append(thing.name)
        return thing.name


def test_items_go_to_their_shards_in_batches_of_bounded_size() -> None:
    bed = Bed()
    bed.batches.send([Thing("a", 0), Thing("b", 1), Thing("c", 0), Thing("d", 0, 7)])
    assert [(ask.shard, ask.marks) for ask, _ in bed.upstream.asked] == [(0, ["a", "c"]), (0, ["d"]), (1, ["b"])]
    assert bed.batches.under_way == 3
    bed.upstream.asked[0][1](MarksMoved(0))
    bed.upstream.asked[1][1](Refused(1, "not_ready", "away"))
    assert bed.stored == [("a", 1, True), ("c", 1, True), ("d", 7, False)] and bed.batches.under_way == 1


def test_nothing_is_taken_of_what_has_no_owner() -> None:
    bed = Bed()
    bed.upstream.away.add(0)
    bed.batches.send([Thing("a", 0), Thing("b", 1)])
    assert bed.taken == ["b"] and len(bed.upstream.asked) == 1
