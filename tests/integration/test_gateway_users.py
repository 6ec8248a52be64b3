"""Users on three gateways, over two dispatchers: listed, ended and counted everywhere, also after an owner is gone."""

import asyncio
import json

from websockets.asyncio.client import ClientConnection

from headgate.core.client.limits import Limits
from tests.integration.cluster_twin import Cluster, cluster, eventually


async def ended(socket: ClientConnection) -> str:
    async with asyncio.timeout(5):
        while True:
            frame = json.loads(await socket.recv())
            if frame["type"] == "unsubscribed":
                return str(frame["reason"])


async def test_a_user_is_listed_and_ended_on_all_gateways_also_after_his_owner_is_gone() -> None:
    async with cluster() as scene:
        for topic in ("a", "b"):
            await scene.create(topic)
        sockets = [await scene.follow(at, "ann", "a", "b") for at in (0, 1, 2)]
        other = await scene.follow(1, "eve", "a")
        answer = await scene.connections("ann")
        assert answer.complete and sorted(c.gateway for c in answer.connections) == ["g0", "g1", "g2"]
        assert all(sorted(s.topic_id for s in c.subscriptions) == ["a", "b"] for c in answer.connections)
        deleted = await scene.delete(1, "ann", "a")
        assert (deleted.status_code, deleted.json()) == (200, {"success": True, "ended": 3})
        assert [await ended(socket) for socket in sockets] == ["ended"] * 3

        await scene.owner_of("ann").kill()
        await scene.linked()
        answer = await scene.connections("ann")  # waits for the gateways to announce their users
        assert answer.complete and sorted(c.gateway for c in answer.connections) == ["g0", "g1", "g2"]
        assert all([s.topic_id for s in c.subscriptions] == ["b"] for c in answer.connections)
        deleted = await scene.delete(2, "ann", "b")
        assert (deleted.status_code, deleted.json()["ended"]) == (200, 3)
        assert [await ended(socket) for socket in sockets] == ["ended"] * 3
        assert (await scene.delete(0, "ann", "b")).json()["ended"] == 0
        assert (await scene.delete(0, "ann", "x")).status_code == 404
        await sockets[0].close()
        await eventually(lambda: has(scene, "ann", ["g1", "g2"]))
        assert len((await scene.connections("eve")).connections) == 1
        for socket in (*sockets[1:], other):
            await socket.close()


async def has(scene: Cluster, user: str, gateways: list[str]) -> bool:
    return sorted(connection.gateway for connection in (await scene.connections(user)).connections) == gateways


async def test_the_limit_of_connections_counts_over_all_gateways() -> None:
    async with cluster(Limits(connections_per_user=4)) as scene:
        first = [await scene.follow(at, "ann") for at in (0, 1, 2, 0)]
        await eventually(lambda: has(scene, "ann", ["g0", "g0", "g1", "g2"]))
        above = await scene.follow(1, "ann")
        async with asyncio.timeout(2):
            frame = json.loads(await above.recv())
        assert (frame["type"], frame["code"], frame["reconnect"]) == ("disconnect", 4529, True)
        await above.wait_closed()
        assert above.close_code == 4529
        await first[2].close()
        await eventually(lambda: has(scene, "ann", ["g0", "g0", "g1"]))
        again = await scene.follow(1, "ann")
        await asyncio.sleep(0.2)
        assert await has(scene, "ann", ["g0", "g0", "g1", "g1"]) and again.close_code is None
        for socket in [first[0], first[1], first[3], again]:
            await socket.close()
