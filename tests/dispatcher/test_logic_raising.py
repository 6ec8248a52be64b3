"""A log that older dispatchers wrote: members mean something once every owner knows them, and not before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

import pytest

from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.service import DispatcherService
from headgate.core.wire import link
from headgate.core.wire.control import (
    CONFIG_KEY,
    LOGIC,
    MEMBERS_LOGIC,
    Config,
    Control,
    CreateTopic,
    SetMember,
    encode_body,
)
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import random_id, shard_of, topic_key
from headgate.core.wire.link_members import AskMemberships, MembershipsAnswer
from headgate.core.wire.records import LogName
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.logs.shard_config import parse_config
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.dispatcher.bed import shell_of
from tests.dispatcher.members_bed import ROOT, Far

SHARDS = 2
OLD_CLAIM = b'{"node":"old","incarnation":"run","address":"old:1"}'


def old_config(cluster_id: str, shards: int, shard: int, generation: int = 1) -> tuple[bytes, bytes]:
    config = Config(cluster_id=cluster_id, generation=generation, shards=shards, shard=shard)
    return CONFIG_KEY, encode_control(encode_body(config), 0)


class Scene:
    """A new dispatcher on a log that old ones wrote, one of which is still there."""

    def __init__(self, loop: VirtualLoop) -> None:
        with mock.patch("headgate.runtime.logs.memory_store.config_record", old_config):
            store = MemoryStore(loop, SeededRng(1), SHARDS, 1 << 28, coordinated=True)
        self.log, self.old = FaultyLog(store), FaultyLog(store).group("old")
        self.service = DispatcherService(DispatcherOptions("new", "new:1", None), self.log, shell_of(loop))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.log.open()
        await self.old.start()
        task = asyncio.create_task(self.service.run())
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def owned(self, count: int) -> list[int]:
        """Waits until the new dispatcher serves so many shards; returns the others, claimed by the old one."""
        async with asyncio.timeout(60):
            while len(self.service.dispatcher.owners) != count:
                await asyncio.sleep(0.1)
        others = sorted({*range(SHARDS)} - {*self.service.dispatcher.owners})
        for shard in others:
            await self.log.append(LogName.OWNERSHIP, shard, str(shard).encode(), OLD_CLAIM)
        return others

    async def append(self, topic: str, control: Control, epoch: int = 0) -> Verdict:
        key, shard = topic_key(topic), shard_of(topic_key(topic), SHARDS)
        value = encode_control(encode_body(control), epoch, random_id(key, SystemRng().entropy(12)))
        at = await self.log.append(LogName.MESSAGES, shard, key, value)
        await asyncio.sleep(1)
        answer = self.ask(shard, link.AskVerdict(1, shard, at.offset))
        assert isinstance(answer, link.Verdicts)
        return answer.verdicts[0]

    def ask(self, shard: int, message: link.Message) -> link.Message:
        api, peer = self.service.dispatcher.api(shard), Far()
        assert api is not None
        api.handle(peer, message)
        return peer.sent[-1]

    def logics(self) -> list[int]:
        return [owner.shard.logic for owner in self.service.dispatcher.owners.values()]

    def topics_of(self, user: str) -> list[tuple[str, str]]:
        answer = self.ask(shard_of(user.encode(), SHARDS), AskMemberships(1, user, "", 10))
        assert isinstance(answer, MembershipsAnswer)
        assert answer.count == len(answer.memberships)
        return [(found.topic_id, found.role) for found in answer.memberships]


def test_members_wait_for_the_last_old_dispatcher_and_then_old_topics_have_their_creators() -> None:
    loop = VirtualLoop()
    scene = Scene(loop)

    async def main() -> None:
        async with scene.running():
            (others,) = [await scene.owned(1)]
            assert len(others) == 1
            topic = next(f"t{n}" for n in range(99) if shard_of(topic_key(f"t{n}"), SHARDS) not in others)
            made = await scene.append(topic, CreateTopic(topic, topic, "PRIVATE", "ann"))
            join = SetMember(topic, "bob", "member", ROOT)
            await asyncio.sleep(60)
            assert scene.logics() == [1]
            assert await scene.append(topic, join, made.epoch) == Verdict(Code.DEAD, MEMBERS_LOGIC)
            await scene.old.stop()
            assert await scene.owned(SHARDS) == []
            await asyncio.sleep(10)
            assert scene.logics() == [LOGIC] * SHARDS
            assert (await scene.append(topic, join, made.epoch)).code == Code.MEMBER
            assert scene.topics_of("ann") == [(topic, "owner")]
            assert scene.topics_of("bob") == [(topic, "member")]
            offsets = [owner.shard.next_offset for owner in scene.service.dispatcher.owners.values()]
            await asyncio.sleep(60)
            assert [o.shard.next_offset for o in scene.service.dispatcher.owners.values()] == offsets, "written once"

    run(loop, main())


def test_creators_of_before_come_from_the_snapshot_when_the_logic_is_raised() -> None:
    """The create record may be long gone from the log: the topic's row is all that is left."""
    loop = VirtualLoop()
    scene = Scene(loop)

    async def main() -> None:
        with mock.patch("dispatcher.outputs.Outputs.created", lambda outputs, row, members: None):  # as an old node
            async with scene.running():
                await scene.old.stop()
                with mock.patch("dispatcher.logic_raising.LOGIC", 1):
                    await scene.owned(SHARDS)
                    await scene.append("t", CreateTopic("t", "t", "PRIVATE", "ann"))
                    await asyncio.sleep(40)
                    assert scene.topics_of("ann") == []
                await asyncio.sleep(10)
                assert scene.logics() == [LOGIC] * SHARDS
                assert scene.topics_of("ann") == [("t", "owner")]

    run(loop, main())


def test_a_new_log_has_members_from_the_beginning() -> None:
    store = MemoryStore(SystemClock(), SeededRng(1), SHARDS)
    parts = [store.parts[LogName.MESSAGES, shard] for shard in range(SHARDS)]
    configs = [parse_config(part.slice(part.first, 1).records[0]) for part in parts]
    assert [config.logic for config in configs if config is not None] == [LOGIC] * SHARDS
