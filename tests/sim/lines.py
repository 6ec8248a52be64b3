"""The links between the processes of a run, kept up, cut and silenced."""

import asyncio
from typing import TYPE_CHECKING, Final

from headgate.core.wire.link import Message
from headgate.runtime.links.memory_link import MemoryLink, memory_link
from tests.sim.nodes import ClientNode, DispatcherNode

if TYPE_CHECKING:
    from tests.sim.world import World

NEVER_S: Final = 1e6


class Line:
    """Keeps one link between a gateway or ingest and a dispatcher, as the pool of links does."""

    def __init__(self, world: "World", client: ClientNode, node: DispatcherNode) -> None:
        self.client = client
        self.node = node
        self._world = world
        self._rng = world.rng(f"line:{client.name}:{node.name}")
        self._near: MemoryLink | None = None
        self._far: MemoryLink | None = None
        self._closed_until = 0.0
        self._black = False
        self._timer: asyncio.TimerHandle | None = None

    def connect(self) -> None:
        """Connects, now or later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._near is not None:
            return
        if not (self.client.up and self.node.up) or self._world.loop.now() < self._closed_until:
            self._again()
            return
        self._black = False
        near, far = memory_link(self.client.name, self.node.name, codec=True, latency_s=self._latency)
        self._near, self._far = near, far
        self.node.service.accept(far)
        self.client.directory.add(near)
        told = near.on_close

        def closed(reason: str) -> None:
            self._near = self._far = None
            told(reason)
            self._again()

        near.on_close = closed

    def cut(self, length: float) -> None:
        """Both ends learn that the link is gone; it stays so for a while."""
        self._closed_until = self._world.loop.now() + length
        if self._near is not None:
            self._near.close("cut")

    def hole(self, length: float) -> None:
        """Nothing arrives any more, in either direction; it is noticed after a while."""
        self._black = True
        near = self._near
        self._world.loop.call_later(length, lambda: near.close("keepalive") if near is not None else None)

    def lose_near(self) -> None:
        """The gateway or ingest is gone: only the far end notices."""
        if self._near is not None:
            self._near.on_messages = _nothing
            self._near.on_close = self._forget
            self._near.close("gone")

    def lose_far(self) -> None:
        """The dispatcher is gone: only the near end notices."""
        if self._far is not None and self._near is not None:
            self._far.on_messages = _nothing
            self._far.on_close = _nobody
            self._near.close("gone")

    def _forget(self, _reason: str) -> None:
        self._near = self._far = None
        self._again()

    def _again(self) -> None:
        if self._timer is None:
            self._timer = self._world.loop.call_later(0.05 + self._rng.random() * 0.4, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self.connect()

    def _latency(self) -> float:
        if self._black:
            return NEVER_S
        return 0.0003 + self._rng.random() * (self._world.plan.link_s if self._rng.random() < 0.95 else 0.2)


def _nothing(_messages: list[Message]) -> None:
    pass


def _nobody(_reason: str) -> None:
    pass
