"""Fences of one shard: tells the gateways that host a topic that from here on somebody may do less in it.

The caller sends what came before a fence before it raises the fence.
"""

from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

from headgate.core.sequencer.routes import Route, Routes
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.topic_changes import MemberChanged
from headgate.core.wire.link import AttachTopic, Ended, Message
from headgate.core.wire.link_members import Fence, TopicSettings
from headgate.core.wire.topic_settings import Settings, effective

FENCES: Final = 2  # the version of a link from which on a gateway knows fences


class Host(Protocol):
    """A gateway as a fence needs it."""

    @property
    def version(self) -> int:
        """The version of its link."""

    def send(self, message: Message) -> None:
        """Queues a message."""


H = TypeVar("H", bound=Host)


class Fences(Generic[H]):
    """Sends fences to the gateways of the routes.

    A gateway whose link is older cannot hold back messages of one user: its subscriptions to the topic end.
    """

    def __init__(self, routes: Routes[H], usual: Settings) -> None:
        """`usual` are the settings of topics that name none."""
        self._routes = routes
        self._usual = usual

    def raise_for_user(self, change: MemberChanged) -> None:
        """Fences one user: where he is no member any longer, his subscriptions end without a question."""
        fence = Fence(change.topic_id, change.epoch, change.fence, change.user_id, change.now is None)
        self._send(fence, list(self._routes.hosts(change.topic_id)))

    def raise_for_all(self, row: Row) -> None:
        """Fences everybody: each subscription has to be authorised again."""
        self._send(Fence(row.topic_id, row.epoch, row.fence), list(self._routes.hosts(row.topic_id)))

    def admits(self, gateway: H, topic: AttachTopic, row: Row) -> bool:
        """Sends an attaching gateway a fence that it does not know; returns False where its subscriptions ended.

        Settings that were ever changed are sent too: the gateway may have missed that.
        """
        if row.version and gateway.version >= FENCES:
            gateway.send(self._settings(row))
        if topic.fence >= row.fence:
            return True
        if gateway.version < FENCES:
            gateway.send(Ended(row.topic_id, row.epoch, "forbidden"))
            return False
        gateway.send(Fence(row.topic_id, row.epoch, row.fence))
        return True

    def update(self, row: Row) -> None:
        """Tells the gateways of a topic its settings after a change."""
        settings = self._settings(row)
        for route in self._routes.hosts(row.topic_id):
            if route.gateway.version >= FENCES:
                route.gateway.send(settings)

    def _send(self, fence: Fence, hosts: Iterable[Route[H]]) -> None:
        for route in hosts:
            if route.gateway.version >= FENCES:
                route.gateway.send(fence)
            else:
                self._routes.drop(route.gateway, route.topic_id)
                route.gateway.send(Ended(fence.topic_id, fence.epoch, "forbidden"))

    def _settings(self, row: Row) -> TopicSettings:
        return TopicSettings(row.topic_id, row.epoch, effective(row.settings, self._usual), row.permissions)
