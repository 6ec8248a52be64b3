"""Three workers of one group on two gateways, on Kafka and in separate processes: one is killed, and then the owner.

Each message is acknowledged by exactly one worker, those of a key come in order, what always fails is one dead letter.
"""

import asyncio
import contextlib
from collections import defaultdict
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, shards_of, token, until

SHARDS: Final = 4
TOPIC: Final = "jobs"
KEYS: Final = 60  # so many that each of three workers has a good part of them
FAILS: Final = 30  # the payload that nobody can use
SETTINGS: Final = {"limits.control_per_s": 1_000}  # a worker acknowledges as fast as it gets
RETRY: Final = {"kind": "fixed", "first_ms": 1_500, "max_ms": 1_500, "jitter": 0, "max_attempts": 3}


class GroupWorker:
    """One member. `stored` are what the server confirmed to be acknowledged, `sent` what it acknowledged."""

    def __init__(self, name: str, url: str, seen: list[tuple[str, int, int, str]]) -> None:
        self.name = name
        self.sent: set[int] = set()
        self.stored: list[int] = []
        self.is_subscribed = False
        self._seen = seen  # of all workers, in the order of arrival: (worker, seq, attempt, key)
        self._url = url.replace("http", "ws", 1) + "/ws/subscribe"
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def kill(self) -> None:
        """Ends it without a word."""
        assert self._task is not None and self._socket is not None
        self._socket.transport.abort()
        self._task.cancel()

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {token(self.name)}"}
        while True:
            with contextlib.suppress(OSError, InvalidHandshake, TimeoutError, ConnectionClosed):
                async with connect(self._url, additional_headers=headers, compression=None) as socket:
                    self._socket = socket
                    await self._work(socket)
            self.is_subscribed = False
            await asyncio.sleep(0.1)

    async def _work(self, socket: ClientConnection) -> None:
        await self._say(socket, type="subscribe", topic_id=TOPIC, ack=True, group="workers", **{"from": "earliest"})
        async for text in socket:
            frame: dict[str, Any] = msgspec.json.decode(text)
            if frame["type"] == "message":
                await self._take(socket, frame)
            elif frame["type"] == "ok" and frame["id"] > 0:
                self.stored.append(frame["id"])
            elif frame["type"] == "subscribed":
                self.is_subscribed = True
            elif frame["type"] == "error":
                raise AssertionError(frame)

    async def _take(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        seq, attempt = frame["seq"], frame.get("attempt", 1)
        self._seen.append((self.name, seq, attempt, frame["key"]))
        await asyncio.sleep(0.005)
        if frame["payload"] == FAILS:
            await self._say(socket, type="nack", id=-seq, topic_id=TOPIC, seq=seq, reason="no use")
        else:
            self.sent.add(seq)
            await self._say(socket, type="ack", id=seq, topic_id=TOPIC, seq=seq)

    async def _say(self, socket: ClientConnection, **frame: object) -> None:
        await socket.send(msgspec.json.encode(frame).decode())


async def publish(admin: Publisher, numbers: range) -> dict[int, int]:
    """Publishes numbers one by one, each until it is accepted; returns them by seq."""
    found = {}
    for n in numbers:
        body = {"payload": n, "key": f"customer-{n % KEYS}", "client_msg_id": f"n-{n}"}
        async with asyncio.timeout(60):
            while True:
                answer = await admin.call("POST", f"/api/v1/topics/{TOPIC}/publish", body, wait="sequenced")
                if answer.status == 200:
                    found[answer.body["seq"]] = n
                    break
                assert answer.status in (503, 504), answer
                await asyncio.sleep(0.1)
    return found


def keys_in_order(seen: list[tuple[str, int, int, str]]) -> None:
    """The messages of a key came in order, each where it came first."""
    first: dict[str, list[int]] = defaultdict(list)
    for _, seq, _, key in seen:
        if seq not in first[key]:
            first[key].append(seq)
    assert all(seqs == sorted(seqs) for seqs in first.values()), "a key is out of its order"


async def test_a_worker_and_the_owner_are_killed_and_each_message_is_done_once(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2, settings=SETTINGS)
    await deployment.start(SHARDS)
    seen: list[tuple[str, int, int, str]] = []
    urls = [gateway.url for gateway in deployment.gateways]
    workers = [GroupWorker(f"worker-{n}", urls[n % 2], seen) for n in range(3)]
    shard = shard_of(topic_key(TOPIC), SHARDS)
    async with AsyncExitStack() as stack:
        root = token("root", service=True, admin=True)
        admin = await stack.enter_async_context(Publisher(deployment.ingests[0].url, root))
        assert (await admin.create(TOPIC, settings={"retry": RETRY})).status == 201
        for worker in workers:
            await stack.enter_async_context(worker)
        await until("everybody works", lambda: all(worker.is_subscribed for worker in workers), 30)
        numbers: dict[int, int] = {}

        async def send() -> None:
            for begin in range(0, 400, 20):
                numbers.update(await publish(admin, range(begin, begin + 20)))

        sending = asyncio.create_task(send())
        await until("the dead worker had some", lambda: len(workers[0].sent) > 20, 30)
        workers[0].kill()
        await until("the others go on", lambda: len(numbers) > 160, 30)
        owner = next(role for role in deployment.dispatchers if shard in shards_of(role))
        owner.kill9()
        await sending
        alive = workers[1:]

        def done() -> bool:
            tried = workers[0].sent.union(*(worker.stored for worker in alive))
            return len(numbers) == 400 and len(tried) >= 399

        await until("all is acknowledged", done, 60)
        letters: list[dict[str, Any]] = []

        async def one_letter() -> bool:
            answer = await admin.call("GET", "/api/v1/dead-letters", topic_id=TOPIC)
            letters[:] = answer.body.get("dead_letters", [])
            return bool(letters)

        await until("what always fails is a dead letter", one_letter, 30)
    (letter,) = letters
    assert numbers[letter["seq"]] == FAILS and letter["attempts"] == RETRY["max_attempts"], letter
    assert letter["user_id"] is None, "it is the group's"
    acknowledged = [seq for worker in workers for seq in worker.stored]
    assert len(set(acknowledged)) == len(acknowledged), "by exactly one"
    assert {seq for _, seq, _, _ in seen} == set(numbers), "nothing is lost"
    assert set(numbers) - set(acknowledged) - {letter["seq"]} <= workers[0].sent, "the dead worker had acknowledged it"
    keys_in_order(seen)
    figures.say(
        f"kill -9 of a worker and of the owner: 3 workers of a group on 2 gateways, 400 messages of {KEYS} keys, each "
        f"acknowledged by one, in order by key; {len(seen) - 400} deliveries more than messages, one dead letter"
    )
