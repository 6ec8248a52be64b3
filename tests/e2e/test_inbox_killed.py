"""Inboxes while the owner of the users' shard, and that of the topics', is killed under load.

HEADGATE_INBOX_KILLS kills of each (Kafka, separate processes): messages, edits and reactions are published, users read
and acknowledge all the time. Afterwards heads, cursors, read marks, `unread` and messages are what the topics say.
"""

import asyncio
import os
import random
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Final

import pytest

from headgate.core.wire.ids import shard_of, topic_key, user_shard
from tests.e2e import ledger
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Role, Stage, shards_of, token, until
from tests.e2e.http import NoAnswer
from tests.e2e.inbox_reader import InboxReader

KILLS: Final = int(os.environ.get("HEADGATE_INBOX_KILLS", "1"))
SHARDS: Final = 4
TOPICS: Final = 6
USERS: Final = 3
PER_S: Final = 8  # messages a second and topic
EVENTS: Final = 0.2  # share of messages that are edited, and of those that somebody reacts to
PATIENCE_S: Final = 60
AWAY: Final = (503, 504)


class Scene:
    """Topics of shard 0, each with all users as members, who are of shard 1."""

    def __init__(self, deployment: Deployment, admin: Publisher, seed: int) -> None:
        self.deployment = deployment
        self.acked: dict[str, dict[str, str]] = {}
        self.users: list[str] = []
        for n in count():
            if len(self.acked) < TOPICS and shard_of(topic_key(f"room-{n}"), SHARDS) == 0:
                self.acked[f"room-{n}"] = {}
            if len(self.users) < USERS and user_shard(f"user-{n}", SHARDS) == 1:
                self.users.append(f"user-{n}")
            if len(self.acked) == TOPICS and len(self.users) == USERS:
                break
        url = deployment.ingests[0].url
        self.readers = [InboxReader(user, url, token(user, service=True), n) for n, user in enumerate(self.users)]
        self._admin = admin
        self._rng = random.Random(seed)
        self._stop = asyncio.Event()

    async def create(self) -> None:
        for topic in self.acked:
            answer = await self._admin.create(topic)
            assert answer.status == 201, answer
            for user in self.users:
                answer = await self._admin.call("PUT", f"/api/v1/topics/{topic}/members/{user}", {"role": "member"})
                assert answer.status == 200, answer

    async def publish(self) -> None:
        """Publishes until stopped, each message until it is accepted; changes some of them."""
        async with asyncio.TaskGroup() as tasks:
            for n in count():
                if self._stop.is_set():
                    return
                for topic in self.acked:
                    tasks.create_task(self._send(topic, n, self._rng.random(), self._rng.random()))
                await asyncio.sleep(1 / PER_S)

    async def _send(self, topic: str, n: int, edited: float, liked: float) -> None:
        path, body = f"/api/v1/topics/{topic}/publish", {"payload": {"n": n}, "client_msg_id": f"n-{n}"}
        message_id = (await self._until_final("POST", path, (200,), body))["message_id"]
        self.acked[topic][f"n-{n}"] = message_id
        path = f"/api/v1/topics/{topic}/messages/{message_id}"
        if edited < EVENTS:  # 409: an attempt that got no answer did it
            await self._until_final("PATCH", path, (200, 409), {"payload": {"n": n, "edited": True}, "version": 1})
        if liked < EVENTS:
            await self._until_final("PUT", f"{path}/reactions/ok", (204,))

    async def _until_final(self, method: str, path: str, good: tuple[int, ...], body: object = None) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    answer = await self._admin.call(method, path, body)
                except NoAnswer:
                    answer = None
                if answer is not None and answer.status in good:
                    return answer.body
                # 404: the owner has not read the message yet
                assert answer is None or answer.status in (*AWAY, 404), answer
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        self._stop.set()

    def check(self) -> None:
        for reader in self.readers:
            reader.check()

    def owner(self, shard: int) -> Role | None:
        """The dispatcher that serves a shard, None while nobody does."""
        serving = (role for role in self.deployment.dispatchers if role.running and shard in shards_of(role))
        return next(serving, None)

    async def kill(self, shard: int) -> None:
        owner = self.owner(shard)
        assert owner is not None
        owner.kill9()
        await until("another owner serves", lambda: self.owner(shard), 40)
        owner.start()
        await owner.ready(40)

    def is_read(self) -> bool:
        """Whether everybody was given every message, and asked once more."""
        self.check()
        return all(
            reader.is_idle and all(len(reader.got.get(topic, ())) >= len(sent) for topic, sent in self.acked.items())
            for reader in self.readers
        )

    async def judge(self) -> int:
        """Compares everybody's inbox with the topics themselves; returns how many messages there are."""
        total = 0
        for topic, acked in self.acked.items():
            history = await self._admin.history(topic)
            messages = [frame for frame in history if "kind" not in frame]
            ledger.acknowledged_once(topic, acked, messages)
            total += len(messages)
            for reader in self.readers:
                seqs = {frame["seq"] for frame in messages}
                assert set(reader.got[topic]) == seqs, f"I1: {reader.user} in {topic}: {set(reader.got[topic]) ^ seqs}"
                await self._equals(reader, topic, history[-1]["seq"], seqs)
        return total

    async def _equals(self, reader: InboxReader, topic: str, head: int, seqs: set[int]) -> None:
        """Waits for the last pointers, and for what the reader still marks."""
        found: dict[str, Any] = {}
        expected: dict[str, Any] = {}

        async def equal() -> bool:
            nonlocal found, expected
            found = (await reader.places())[topic]
            read = reader.reads[topic]
            expected = {
                "topic_id": topic,
                "mode": "direct",
                "head_seq": head,
                "cursor_seq": reader.cursors[topic],
                "read_seq": read,
                "unread": sum(seq > read for seq in seqs),
            }
            return found == found | expected

        try:
            await until("", equal, 15)
        except AssertionError:
            raise AssertionError(f"I3: {reader.user}: {found}, expected {expected}") from None


@pytest.mark.parametrize(("what", "shard"), [("the topics' owner", 0), ("the users' owner", 1)])
async def test_a_killed_owner_changes_no_inbox(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str, what: str, shard: int
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=0)
    await deployment.start(SHARDS)
    async with AsyncExitStack() as stack:
        root = token("root", service=True, admin=True)
        admin = await stack.enter_async_context(Publisher(deployment.ingests[0].url, root))
        scene = Scene(deployment, admin, 20_261_127 + shard)
        await scene.create()
        for reader in scene.readers:
            await stack.enter_async_context(reader)
        publishing = asyncio.create_task(scene.publish())
        for n in range(KILLS):
            await asyncio.sleep(random.Random(n).uniform(1.0, 3.0))
            scene.check()
            await scene.kill(shard)
        await asyncio.sleep(1.0)
        scene.stop()
        await publishing
        await until("everybody has read everything", scene.is_read, 90)
        total = await scene.judge()
        scene.check()
    repeats = sum(many.total() - len(many) for reader in scene.readers for many in reader.got.values())
    figures.say(
        f"{KILLS} x kill -9 of {what}: {total} messages in {TOPICS} topics, {USERS} users, "
        f"{sum(reader.requests for reader in scene.readers)} requests of theirs; nothing lost, no place went back, "
        f"{repeats} messages were given again before their acknowledgement was answered"
    )
