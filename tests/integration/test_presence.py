"""Presence over three gateways and two dispatchers: after churn and after each fault every list equals the truth."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect

from dispatcher import shard_presence
from headgate.core.wire.control import CreateTopic, UpdateTopic
from headgate.core.wire.link_presence import AskPresence, PresenceAnswer
from headgate.core.wire.rights import Caller, actor_of
from tests.integration.cluster_twin import Cluster, cluster, eventually, token
from tests.presence_room import Watcher

TOPIC = "room"
ROOT = Caller("root", admin=True)


class Room:
    """One topic whose watchers are on every gateway; `open` are all connections, by gateway."""

    def __init__(self, world: Cluster, watchers: list[Watcher]) -> None:
        self.world = world
        self.watchers = watchers
        self.open: list[tuple[int, str, ClientConnection]] = []
        self.rng = random.Random(1)

    async def join(self, at: int, user: str) -> None:
        url = f"ws://{self.world.address(at)}/ws/subscribe?topic_id={TOPIC}&presence=false&token={token(user)}"
        socket = await connect(url)
        for _ in range(2):
            await socket.recv()
        self.open.append((at, user, socket))

    async def churn(self, steps: int, users: int, gateways: tuple[int, ...] = (0, 1, 2)) -> None:
        for _ in range(steps):
            here = [place for place in self.open if place[0] in gateways]
            if here and self.rng.random() < 0.4:
                gone = self.rng.choice(here)
                self.open.remove(gone)
                await gone[2].close()
            else:
                await self.join(self.rng.choice(gateways), f"u{self.rng.randrange(users)}")

    def truth(self) -> dict[str, int]:
        return dict(Counter(user for _, user, _ in self.open)) | {f"watcher{at}": 1 for at in range(len(self.watchers))}

    async def owner_says(self) -> dict[str, int] | None:
        shard = self.world.ingest.shard_of(TOPIC)
        try:
            answer = await self.world.ingest.ask(shard, lambda req: AskPresence(req, TOPIC, ROOT, "", 1_000))
        except Exception:
            return None
        assert isinstance(answer, PresenceAnswer)
        assert answer.count == len(answer.users)
        return {user.user_id: user.connections for user in answer.users}

    async def is_true(self, without: frozenset[int] = frozenset()) -> bool:
        truth = {user: n for user, n in self.truth().items() if user not in {f"watcher{at}" for at in without}}
        if await self.owner_says() != truth:
            return False
        live = [watcher for at, watcher in enumerate(self.watchers) if at not in without]
        return all(watcher.users.keys() == truth.keys() and watcher.count == len(truth) for watcher in live)


@asynccontextmanager
async def room() -> AsyncIterator[Room]:
    async with cluster() as world:
        made = CreateTopic(TOPIC, TOPIC, "PUBLIC", "root", settings={"presence": "list"})
        await world.control(TOPIC, made, 0)
        watchers = []
        for at in range(3):
            watchers.append(await Watcher.open(world.address(at), TOPIC, token(f"watcher{at}")))
        found = Room(world, watchers)
        await eventually(found.is_true)
        yield found


async def test_after_churn_a_fail_over_and_the_death_of_a_gateway_every_list_equals_the_truth() -> None:
    async with room() as place:
        world = place.world
        await place.churn(120, 40)
        await eventually(place.is_true)
        diffs = [watcher.diffs for watcher in place.watchers]
        await world.owner_of(TOPIC).kill()
        await world.linked()
        await eventually(place.is_true, 15)
        await asyncio.sleep(1.5)
        assert [watcher.diffs for watcher in place.watchers] == diffs, "a new owner that knows the same is no news"
        await place.churn(30, 40)
        await eventually(place.is_true)
        dead = world.gateways[2]
        for wire in list(dead.directory.nodes.values()):
            wire.close("the gateway was killed")
        place.open = [each for each in place.open if each[0] != 2]
        await eventually(lambda: place.is_true(frozenset({2})), 15)
        await place.churn(20, 40, (0, 1))
        await eventually(lambda: place.is_true(frozenset({2})))


async def test_a_gateway_whose_link_blinks_or_that_was_frozen_comes_back() -> None:
    async with room() as place:
        world = place.world
        await place.churn(40, 20)
        await eventually(place.is_true)
        diffs = place.watchers[0].diffs
        gateway = world.gateways[1].directory

        def cut() -> None:
            for wire in list(gateway.nodes.values()):
                wire.close("cut")

        def link() -> None:
            for node in world.dispatchers:
                node.link(gateway)

        cut()
        await asyncio.sleep(0.2)
        link()
        await world.linked()
        await eventually(place.is_true)
        await asyncio.sleep(1.2)
        assert place.watchers[0].diffs == diffs, "a blink is no news"
        cut()
        others = Counter(user for at, user, _ in place.open if at != 1) | Counter({"watcher0": 1, "watcher2": 1})
        await eventually(lambda: _says(place, dict(others)), shard_presence.GRACE_S + 5)
        assert "watcher1" not in place.watchers[0].users or await _soon_without(place.watchers[0], "watcher1")
        link()
        await world.linked()
        await eventually(place.is_true)


async def _says(place: Room, users: dict[str, int]) -> bool:
    return await place.owner_says() == users


async def _soon_without(watcher: Watcher, user: str) -> bool:
    async def gone() -> bool:
        return user not in watcher.users

    await eventually(gone, 3)
    return True


async def test_status_typing_and_another_mode_reach_every_gateway() -> None:
    async with room() as place:
        world = place.world
        for at in (0, 1):
            await place.join(at, "ann")
        for _, _, socket in place.open:
            await socket.send(json.dumps({"type": "status", "state": "away", "id": 1}))
            assert json.loads(await socket.recv()) == {"type": "ok", "id": 1}

        async def ann(state: str) -> bool:
            return all(watcher.users.get("ann") == state for watcher in place.watchers)

        await eventually(lambda: ann("away"))
        await place.open[0][2].send(json.dumps({"type": "status", "state": "online"}))
        await eventually(lambda: ann("online"))

        async def typed() -> bool:
            """Nobody repeats what was typed while a shard moved: the client says it again, as it does in life."""
            await place.open[1][2].send(json.dumps({"type": "typing", "topic_id": TOPIC}))
            await asyncio.sleep(1.0)
            return all(set(watcher.typed) == {"ann"} for watcher in place.watchers)

        await eventually(typed)
        epoch = world.gateways[0].service.hub.feeds[TOPIC].epoch
        change = UpdateTopic(TOPIC, 0, actor_of(ROOT, TOPIC), settings={"presence": "count"})
        await world.control(TOPIC, change, epoch)

        async def counted() -> bool:
            return all((watcher.users, watcher.count) == ({}, 4) for watcher in place.watchers)

        await eventually(counted)
