"""Sends what moved to the owners of users' shards to be stored, in batches of bounded size."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from headgate.core.fanout.ports import Upstream
from headgate.core.wire.link import Answer, Request


class Moving(Protocol):
    """Something of a user that is stored by the owner of his shard; `version` says which state of it is sent."""

    @property
    def shard(self) -> int:
        """The shard of the user."""

    @property
    def version(self) -> int:
        """Rises with each change."""


Item = TypeVar("Item", bound=Moving)


class ShardBatches(Generic[Item]):
    """The batches of one gateway for one kind of request.

    `take` returns what is sent of an item, `build` makes the request of it (req, shard, what was taken), and `stored`
    is told of each item, with the version that was sent, whether the owner has stored it.
    """

    def __init__(
        self,
        upstream: Upstream,
        most: int,
        take: Callable[[Item], Any],
        build: Callable[[int, int, list[Any]], Request],
        stored: Callable[[Item, int, bool], None],
        good: type,
    ) -> None:
        """`most` are the items of one request, and `good` is the answer that says that they are stored."""
        self._upstream = upstream
        self._most = most
        self._take = take
        self._build = build
        self._stored = stored
        self._good = good
        self.under_way = 0  # requests that are not answered

    def send(self, items: Iterable[Item]) -> None:
        """Sends items, but for those whose owner is not linked: nothing is taken of them."""
        by_shard: dict[int, list[Item]] = {}
        for item in items:
            by_shard.setdefault(item.shard, []).append(item)
        for shard, group in by_shard.items():
            if self._upstream.linked(shard):
                for at in range(0, len(group), self._most):
                    self._ask(shard, group[at : at + self._most])

    def _ask(self, shard: int, group: Sequence[Item]) -> None:
        taken = [self._take(item) for item in group]
        versions = [(item, item.version) for item in group]
        self.under_way += 1
        self._upstream.request(shard, lambda req: self._build(req, shard, taken), partial(self._answered, versions))

    def _answered(self, versions: list[tuple[Item, int]], answer: Answer) -> None:
        self.under_way -= 1
        is_stored = isinstance(answer, self._good)
        for item, version in versions:
            self._stored(item, version, is_stored)
