"""The links between the processes of a run, kept up, cut and silenced."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from headgate.runtime.ports import OnClose, OnMessages, ignore
from headgate.runtime.testing.encoded_link import EncodedLink, Latency
from tests.sim.nodes import ClientNode, DispatcherNode

if TYPE_CHECKING:
    from tests.sim.world import World

NEVER_S: Final = 1e6


class NearEnd(EncodedLink):
    """The gateway's or ingest's end: its line hears of the close too, before and after the end's user."""

    def __init__(self, peer: str, latency_s: Latency, before: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__(peer, latency_s)
        self._before, self._after = before, after

    def deliver_to(self, on_messages: OnMessages = ignore, on_close: OnClose = ignore) -> None:
        """Names the functions that this end calls."""

        def closed(reason: str) -> None:
            self._before()
            on_close(reason)
            self._after()

        super().deliver_to(on_messages, closed)


class Line:
    """Keeps one link between a gateway or ingest and a dispatcher, as the pool of links does."""

    def __init__(self, world: "World", client: ClientNode, node: DispatcherNode) -> None:
        self.client = client
        self.node = node
        self._world = world
        self._rng = world.rng(f"line:{client.name}:{node.name}")
        self._near: NearEnd | None = None
        self._far: EncodedLink | None = None
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
        self._near = near = NearEnd(self.node.name, self._latency, self._forget, self._again)
        self._far = far = EncodedLink(self.client.name, self._latency)
        near.join(far)
        self.node.service.accept(far)
        self.client.directory.add(near)

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
            self._near.deliver_to()
            self._near.close("gone")

    def lose_far(self) -> None:
        """The dispatcher is gone: only the near end notices."""
        if self._far is not None and self._near is not None:
            self._far.deliver_to()
            self._near.close("gone")

    def _forget(self) -> None:
        self._near = self._far = None

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
