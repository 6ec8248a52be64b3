"""Publishers that wait for room: their order, their bound, and no place is lost."""

import asyncio

import pytest

from headgate.broker import AsyncBroker, OnFull, Refusal
from headgate.broker.waiting_publishers import MAX_WAITING
from tests.sim.loop import SimLoop, run


def test_at_the_bound_the_next_publisher_is_refused_and_those_who_wait_get_in() -> None:
    async def scene() -> None:
        async with AsyncBroker(max_queue_size=1, on_full=OnFull.BLOCK, block_timeout_s=60.0) as broker:
            worker = broker.subscribe_pull("orders", "worker")
            await broker.publish("orders", 0)
            waiting = [asyncio.ensure_future(broker.publish("orders", n + 1)) for n in range(MAX_WAITING)]
            await asyncio.sleep(0)
            with pytest.raises(Refusal, match="queue_full"):
                await broker.publish("orders", "one too many")
            worker.take()
            worker.ack()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [future.done() for future in waiting[:2]] == [True, False], "one place, and the first has it"
            last = asyncio.ensure_future(broker.publish("orders", "the place in the line is free again"))
            taken = []
            while (message := worker.take()) is not None:
                taken.append(message.payload)
                worker.ack()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await asyncio.gather(*waiting, last)
            assert taken == [*range(1, MAX_WAITING + 1), "the place in the line is free again"]

    run(SimLoop(), scene())
