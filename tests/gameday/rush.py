"""More than is usual: small messages as fast as they are taken, a topic of many members, sessions that keep coming."""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from itertools import count, islice
from typing import Any, Final

from websockets.asyncio.client import connect

from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e.clients import Publisher
from tests.e2e.harness import token
from tests.e2e.http import NoAnswer
from tests.gameday.flood import NOT_NOW, OWNER

SHARD: Final = 0  # all of it to one: the depth of a shard is what is watched
SHARDS: Final = 8
PUBLISHERS: Final = 4
TOPICS: Final = 100  # of each publisher: a batch is as many records, since the lag counts records
REST_S: Final = 0.05
LARGE: Final = "crowd"
MEMBERS: Final = 5_001  # one more than a large topic needs to be none
ASKERS: Final = 8
GUEST_S: Final = 0.5


class Rush:
    """Small messages from several publishers to many topics of one shard, from `start` to `stop`; nobody follows."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Publishes from now on."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Publishes no more. Raises what publishing died of."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def _run(self) -> None:
        names = (name for name in map("rush.{}".format, count()) if _is_of_shard(name))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PUBLISHERS):
                tasks.create_task(self._publish(list(islice(names, TOPICS))))

    async def _publish(self, topics: list[str]) -> None:
        async with Publisher(self._url, token(OWNER, service=True)) as publisher:
            for topic in topics:
                while (await publisher.create(topic)).status in NOT_NOW:
                    await asyncio.sleep(REST_S)
            while True:
                with contextlib.suppress(NoAnswer, TimeoutError):
                    items = [{"topic_id": topic, "payload": number} for number, topic in enumerate(topics)]
                    answer = await publisher.call("POST", "/api/v1/publish/batch", items)
                    assert answer.status == 200 or answer.status in NOT_NOW, answer
                await asyncio.sleep(REST_S)


def _is_of_shard(name: str) -> bool:
    return shard_of(topic_key(name), SHARDS) == SHARD


class Crowd:
    """A topic of MEMBERS members, its owner among them."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def gather(self) -> None:
        """Makes the topic, and each user a member of it."""
        async with self._owner() as owner:
            assert (await owner.create(LARGE)).status == 201
        users = iter(range(MEMBERS - 1))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(ASKERS):
                tasks.create_task(self._ask(users))

    async def leave(self) -> None:
        """Deletes the topic."""
        async with self._owner() as owner:
            assert (await owner.call("DELETE", f"/api/v1/topics/{LARGE}")).status == 204

    async def _ask(self, users: Any) -> None:
        async with self._owner() as owner:
            for number in users:
                path = f"/api/v1/topics/{LARGE}/members/guest-{number}"
                while (answer := await owner.call("PUT", path, {"role": "member"})).status in NOT_NOW:
                    await asyncio.sleep(REST_S)
                assert answer.status == 200, answer

    def _owner(self) -> Publisher:
        return Publisher(self._url, token(OWNER, service=True))


class Guests:
    """WebSocket sessions that come one after the other and stay."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("http", "ws", 1)
        self._task: asyncio.Task[None] | None = None

    async def come(self) -> None:
        """They come from now on, one every GUEST_S."""
        self._task = asyncio.create_task(self._run())

    async def leave(self) -> None:
        """All leave. Raises what connecting died of."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {token('guest', service=True)}"}
        async with AsyncExitStack() as stack:
            while True:
                await stack.enter_async_context(
                    connect(f"{self._url}/ws/subscribe", additional_headers=headers, proxy=None)
                )
                await asyncio.sleep(GUEST_S)
