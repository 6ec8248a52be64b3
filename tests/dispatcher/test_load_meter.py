"""The meter: a loop that is held up and links that are full become load, in a loop of virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dispatcher.load_meter import SAMPLE_S, LoadMeter
from dispatcher.shard import LINK_BYTES
from headgate.core.sequencer.load import Load
from tests.contract.virtual import VirtualLoop, run


class Peer:
    def __init__(self, role: str, queued: int) -> None:
        self.is_gateway = role == "gateway"
        self.queued = queued


class Metered:
    """A meter of a dispatcher with these links; the clock may run while the loop stands still."""

    def __init__(self, loop: VirtualLoop, *peers: Peer) -> None:
        self.load = Load()
        self.peers = dict.fromkeys(peers)
        self._loop = loop
        self._held_s = 0.0
        self.meter = LoadMeter(self, self)  # type: ignore[arg-type]  # the part of a dispatcher and a clock it uses

    def now(self) -> float:
        return self._loop.now() + self._held_s

    def hold(self, seconds: float) -> None:
        """The loop runs nothing for so long."""
        self._held_s += seconds


def metered(scene: Callable[[Metered], Awaitable[None]], *peers: Peer) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        bed = Metered(loop, *peers)
        task = asyncio.create_task(bed.meter.run())
        await scene(bed)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(VirtualLoop(), main())


def test_load_above_08_for_10_seconds_sheds_and_is_back_to_normal_within_2() -> None:
    async def scene(bed: Metered) -> None:
        await asyncio.sleep(1)
        assert bed.load.value < 0.01 and not bed.load.sheds
        begun = bed.now()
        while bed.now() < begun + 10:
            bed.hold(0.3)
            await asyncio.sleep(SAMPLE_S)
        assert bed.load.sheds and bed.load.value > 0.8
        await asyncio.sleep(2)
        assert not bed.load.sheds and bed.load.value < 0.1

    metered(scene)


def test_only_links_to_gateways_count_and_all_of_them() -> None:
    async def scene(bed: Metered) -> None:
        await asyncio.sleep(0.15)
        assert bed.load.value == 0.5

    metered(scene, Peer("gateway", LINK_BYTES), Peer("gateway", 0), Peer("ingest", 100 * LINK_BYTES))
