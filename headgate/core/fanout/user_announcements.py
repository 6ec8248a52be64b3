"""Tells the owners of users' shards which users are connected here (`headgate.core.wire.link_users`).

A connect costs a dictionary entry and its share of a batch; `AnnouncementPace` says when a batch is told.
"""

from collections.abc import Iterator
from typing import Final

from headgate.core.fanout.connections import Connections
from headgate.core.fanout.ports import Upstream
from headgate.core.wire.link_users import AttachUsers, UserRoute, UsersChanged

CHUNK: Final = 1_000  # users: about 40 KB on the link


class UserAnnouncements:
    """Announces the users of one gateway."""

    def __init__(self, connections: Connections, upstream: Upstream) -> None:
        self._connections = connections
        self._upstream = upstream

    def announce(self) -> None:
        """Tells what has changed since the last call. A shard without an owner is told all by `attach`."""
        if self._connections.has_changed:
            for shard, users in self._connections.take_changed().items():
                for chunk in _chunks(users):
                    self._upstream.send(shard, UsersChanged(shard, chunk))

    def attach(self, shard: int) -> None:
        """Tells a new owner of a shard all of its users that are here."""
        chunks = list(_chunks(self._connections.counts(shard))) or [[]]
        for at, chunk in enumerate(chunks):
            self._upstream.send(shard, AttachUsers(shard, at == 0, at == len(chunks) - 1, chunk))


def _chunks(users: list[tuple[str, int]]) -> Iterator[list[UserRoute]]:
    for at in range(0, len(users), CHUNK):
        yield [UserRoute(user_id, count) for user_id, count in users[at : at + CHUNK]]
