"""`wait=delivered` over two dispatchers and three gateways on real sockets: the sum, and what is left of it."""

import asyncio
import json
from os import urandom

import pytest

from headgate.core.wire.control import CreateTopic
from headgate.core.wire.envelope import Item, encode_message
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.link_deliveries import AskDelivered, Delivered, DeliveriesExpected, ExpectDeliveries
from headgate.core.wire.link_ephemeral import Relay
from tests.integration.cluster_twin import Cluster, cluster

TAIL = b'"message_id":"m","publisher_id":"p","payload":1}'


async def publish(found: Cluster, topic: str, epoch: int, *, ephemeral: bool) -> bytes:
    """Publishes one message that is counted; returns its id."""
    shard = found.ingest.shard_of(topic)
    message_id = random_id(topic_key(topic), urandom(12))
    expected = await found.ingest.ask(shard, lambda req: ExpectDeliveries(req, topic, epoch, [message_id]))
    assert isinstance(expected, DeliveriesExpected)
    if ephemeral:
        await found.ingest.ask(shard, lambda req: Relay(req, topic, epoch, TAIL, id=message_id))
    else:
        await found._verdict(topic, encode_message(Item(message_id, 0, TAIL), epoch))
    return message_id


async def delivered(found: Cluster, topic: str, epoch: int, message_id: bytes, wait_ms: int) -> int:
    shard = found.ingest.shard_of(topic)
    answer = await found.ingest.ask(shard, lambda req: AskDelivered(req, topic, epoch, message_id, wait_ms))
    assert isinstance(answer, Delivered)
    return answer.count


async def create(found: Cluster, topic: str, *, ephemeral: bool) -> int:
    settings = {"profile": "ephemeral"} if ephemeral else {}
    return (await found.control(topic, CreateTopic(topic, topic, "PUBLIC", "root", settings), 0)).epoch


@pytest.mark.parametrize("ephemeral", [False, True])
async def test_the_sockets_of_all_gateways_are_summed_up(ephemeral: bool) -> None:
    async with cluster() as found:
        epoch = await create(found, "t", ephemeral=ephemeral)
        nobody = await publish(found, "t", epoch, ephemeral=ephemeral)
        assert await delivered(found, "t", epoch, nobody, 10_000) == 0, "at once"
        sockets = [await found.follow(at, f"u{at}", "t") for at in (0, 0, 1, 2)]
        message_id = await publish(found, "t", epoch, ephemeral=ephemeral)
        assert await delivered(found, "t", epoch, message_id, 10_000) == 4
        for socket in sockets:
            assert json.loads(await socket.recv())["payload"] == 1
            await socket.close()


async def test_a_gateway_that_is_silent_or_gone_leaves_the_count_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster() as found:
        epoch = await create(found, "t", ephemeral=False)
        sockets = [await found.follow(at, f"u{at}", "t") for at in (0, 1)]
        silent = found.gateways[1].service.counts
        monkeypatch.setattr(silent, "report", lambda **named: None)
        message_id = await publish(found, "t", epoch, ephemeral=False)
        begun = asyncio.get_running_loop().time()
        assert await delivered(found, "t", epoch, message_id, 300) == 1
        assert asyncio.get_running_loop().time() - begun < 3
        waiting = asyncio.create_task(delivered(found, "t", epoch, message_id, 60_000))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        for wire in list(found.gateways[1].directory.nodes.values()):
            wire.close("the gateway was killed")
        assert await asyncio.wait_for(waiting, 10) == 1
        for socket in sockets:
            await socket.close()


async def test_an_owner_that_is_gone_knows_nothing() -> None:
    async with cluster() as found:
        epoch = await create(found, "t", ephemeral=False)
        socket = await found.follow(0, "u", "t")
        message_id = await publish(found, "t", epoch, ephemeral=False)
        assert await delivered(found, "t", epoch, message_id, 1_000) == 1
        await found.owner_of("t").kill()
        await found.linked()
        assert await delivered(found, "t", epoch, message_id, 1_000) == -1
        await socket.close()
