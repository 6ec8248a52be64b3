"""Rights that change while messages flow, on three gateways over two dispatchers, one of which is killed meanwhile."""

import asyncio
import json

import pytest

from headgate.core.wire.control import Actor, RemoveMember, SetMember, UpdateTopic
from headgate.core.wire.member_roles import Role
from headgate.core.wire.verdict import Code
from tests.integration.cluster_twin import Cluster, cluster
from tests.integration.gateway_twin import seqs_until

ROOT = Actor("root")
MESSAGES = 300


class Scene:
    """A topic `a` with listeners; `fences` are the last seq that each who lost his right may have seen."""

    def __init__(self, found: Cluster, epoch: int) -> None:
        self.cluster = found
        self.epoch = epoch
        self.fences: dict[str, int] = {}
        self.seq = 0

    async def publish(self, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            verdict = await self.cluster.publish("a", self.epoch, self.seq)
            assert (verdict.code, verdict.seq) == (Code.ACCEPTED, self.seq)

    async def change(self, control: SetMember | RemoveMember | UpdateTopic, *losers: str) -> None:
        verdict = await self.cluster.control("a", control, self.epoch)
        assert verdict.code in (Code.MEMBER, Code.REMOVED, Code.UPDATED)
        self.fences |= dict.fromkeys(losers, self.seq)


@pytest.mark.parametrize("killed", [False, True])
async def test_nobody_hears_anything_above_his_fence_and_everybody_else_hears_all(killed: bool) -> None:
    users = [f"u{n}" for n in range(12)]
    async with cluster() as found:
        scene = Scene(found, await found.create("a"))
        for user in users[:9]:
            await scene.change(SetMember("a", user, Role.MEMBER, ROOT))
        sockets = {user: await found.follow(n % 3, user, "a") for n, user in enumerate(users)}
        reading = {user: asyncio.create_task(seqs_until(socket, MESSAGES, 60)) for user, socket in sockets.items()}
        await scene.publish(50)
        await scene.change(UpdateTopic("a", 0, ROOT, permissions="PRIVATE"), *users[9:])
        await scene.publish(50)
        for user in users[:3]:
            await scene.change(RemoveMember("a", user, ROOT), user)
            await scene.publish(10)
        if killed:
            await found.owner_of("a").kill()
        for user in users[3:6]:
            await scene.change(SetMember("a", user, Role.PUBLISHER, ROOT), user)
            await scene.publish(10)
        await scene.change(SetMember("a", users[6], Role.SUBSCRIBER, ROOT))
        await scene.publish(MESSAGES - scene.seq)
        for user, task in reading.items():
            seqs, reasons = await task
            last = scene.fences.get(user, MESSAGES)
            expected = (list(range(1, last + 1)), ["forbidden"] if user in scene.fences else [])
            assert (seqs, reasons) == expected, user
        for socket in sockets.values():
            await socket.close()
        assert len(scene.fences) == 9


async def test_a_topic_that_is_opened_again_is_heard_by_who_comes_back() -> None:
    async with cluster() as found:
        scene = Scene(found, await found.create("a"))
        socket = await found.follow(1, "eve", "a")
        await scene.publish(1)
        await scene.change(UpdateTopic("a", 0, ROOT, permissions="PRIVATE"), "eve")
        assert await seqs_until(socket, 9, 60) == ([1], ["forbidden"])
        await socket.send(json.dumps({"type": "subscribe", "topic_id": "a"}))
        assert json.loads(await socket.recv())["code"] == "topic_not_found"
        await scene.change(UpdateTopic("a", 1, ROOT, permissions="SUBSCRIBE_ONLY"))
        await socket.send(json.dumps({"type": "subscribe", "topic_id": "a", "from": {"seq": 1}}))
        await scene.publish(1)
        assert await seqs_until(socket, 2, 60) == ([2], [])
        await socket.close()
