"""Tells the owners of users' shards which users are connected here (`headgate.core.wire.link_users`).

A connect costs a dictionary entry and its share of a batch: what changed in a loop turn is told at its end.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from headgate.core.fanout.connections import Connections
from headgate.core.fanout.ports import Upstream
from headgate.core.wire.link_users import AttachUsers, UserRoute, UsersChanged

CHUNK: Final = 1_000  # users: about 40 KB on the link


class UserAnnouncements:
    """The users of one gateway, for their owners. `schedule` asks the shell for a call of `announce`."""

    def __init__(self, connections: Connections, upstream: Upstream, schedule: Callable[[], None]) -> None:
        self._connections = connections
        self._upstream = upstream
        self._schedule = schedule
        self._changed: dict[str, None] = {}

    def changed(self, user_id: str) -> None:
        """A user has one session more or less."""
        if not self._changed:
            self._schedule()
        self._changed[user_id] = None

    def announce(self) -> None:
        """Tells what has changed since the last call. A shard without an owner is told all by `attach`."""
        changed, self._changed = self._changed, {}
        shards: dict[int, list[str]] = {}
        for user_id in changed:
            shards.setdefault(self._connections.shard_of(user_id), []).append(user_id)
        for shard, users in shards.items():
            for chunk in _chunks(users):
                self._upstream.send(shard, UsersChanged(shard, self._routes(chunk)))

    def attach(self, shard: int) -> None:
        """Tells a new owner of a shard all of its users that are here."""
        chunks = list(_chunks(self._connections.users(shard))) or [[]]
        for at, chunk in enumerate(chunks):
            self._upstream.send(shard, AttachUsers(shard, at == 0, at == len(chunks) - 1, self._routes(chunk)))

    def _routes(self, users: Iterable[str]) -> list[UserRoute]:
        return [UserRoute(user_id, self._connections.count(user_id)) for user_id in users]


def _chunks(users: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(users), CHUNK):
        yield users[at : at + CHUNK]
