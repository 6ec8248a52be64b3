"""Bounds of consumer groups at the owner, on a dispatcher with one gateway's link."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dispatcher import consumer_groups, group_cursors
from dispatcher.running_group import RunningGroup
from headgate.core.inbox import cursors
from headgate.core.wire import link
from headgate.core.wire.errors import CorruptRecord, Refusal
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_groups import GroupAck, GroupAcked, GroupJoined, GroupMessages, JoinGroup, LeaveGroup
from headgate.core.wire.rights import Caller
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.system import SystemClock, SystemRng
from tests.integration.cluster_twin import until
from tests.integration.groups_twin import GroupsBed, groups_bed

ANN = Caller("ann")


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[GroupsBed]:
    log = SqliteLog(tmp_path / "log.db", SystemClock(), SystemRng(), 2)
    await log.open()
    async with groups_bed(log) as found:
        await found.create("t")
        yield found
    await log.close()


async def ask(bed: GroupsBed, build: Any) -> Any:
    """Asks the owner of the topic on a link that pushes go nowhere from."""
    return await bed.ingest.ask(bed.ingest.shard_of("t"), build)


def joining(group: str, member: str, **more: Any) -> Any:
    return lambda req: link.AskSubscribe(req, "t", ANN, group=group, member=member, **more)


async def test_groups_of_a_topic_and_members_of_a_group_are_bounded(
    bed: GroupsBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_groups, "GROUPS", 2)
    monkeypatch.setattr(consumer_groups, "MEMBERS", 2)
    for group, member in (("a", "1"), ("a", "2"), ("b", "3")):
        assert (await ask(bed, joining(group, member))).group == group
    for group in ("a", "c"):
        with pytest.raises(Refusal) as refused:
            await ask(bed, joining(group, "4"))
        assert refused.value.code == "limit_reached"
    bed.ingest.send(bed.ingest.shard_of("t"), LeaveGroup("t", bed.epochs["t"], "b", "3"))
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await ask(bed, joining("c", "4"))).group == "c"
                return
            except Refusal:
                await asyncio.sleep(0.02)  # the cursor of `b` is on its way to the log


async def test_a_shard_without_room_for_cursors_takes_no_new_group(
    bed: GroupsBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(bed, joining("a", "1"))
    await until(lambda: len(bed.owner("t").inbox.users.cursors) == 1)
    monkeypatch.setattr(cursors, "MAX_ROWS", 1)
    with pytest.raises(Refusal) as refused:
        await ask(bed, joining("b", "2"))
    assert refused.value.code == "overloaded"
    assert (await ask(bed, joining("a", "2"))).group == "a"


async def test_the_groups_of_one_topic_do_not_fill_the_shard(bed: GroupsBed, monkeypatch: pytest.MonkeyPatch) -> None:
    await ask(bed, joining("a", "1"))
    await until(lambda: len(bed.owner("t").inbox.users.cursors) == 1)
    monkeypatch.setattr(cursors, "SHARE", 1)
    with pytest.raises(Refusal) as refused:
        await ask(bed, joining("b", "2"))
    assert refused.value.code == "limit_reached"
    assert (await ask(bed, joining("a", "2"))).group == "a"


async def test_what_a_stranger_or_a_topic_that_is_gone_is_told(bed: GroupsBed) -> None:
    epoch = bed.epochs["t"]
    with pytest.raises(Refusal) as refused:
        await ask(bed, lambda req: GroupAck(req, "t", epoch, "w", "1", [1]))
    assert refused.value.code == "not_ready", "its gateway announces it then"
    assert isinstance(await ask(bed, lambda req: JoinGroup(req, "t", epoch, "w", "1", [], [], 0)), GroupJoined)
    assert isinstance(await ask(bed, lambda req: GroupAck(req, "t", epoch, "w", "1", [1], True)), GroupAcked)
    with pytest.raises(Refusal) as refused:
        await ask(bed, lambda req: JoinGroup(req, "t", epoch + 1, "w", "1", [], [], 0))
    assert refused.value.code == "topic_not_found"


async def test_a_topic_without_groups_has_no_part_in_it(bed: GroupsBed) -> None:
    await bed.publish("t", range(3))
    api = bed.service.dispatcher.api(bed.ingest.shard_of("t")) if bed.service else None
    assert api is not None and api.groups._groups == {}
    member = await bed.member(0, "t")
    await member.close()
    await until(lambda: api.groups._groups == {}, 10)
    assert GroupMessages.__struct_config__.tag == 152


async def test_only_the_groups_of_topics_with_new_records_are_looked_at(
    bed: GroupsBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(RunningGroup, "look", lambda group: looked.append(group.topic_id))
    other = next(name for name in map("u{}".format, count()) if bed.ingest.shard_of(name) == bed.ingest.shard_of("t"))
    await bed.create(other)
    await ask(bed, joining("a", "1"))
    looked.clear()
    await bed.publish(other, range(3))
    await bed.publish("t", range(1))
    await until(lambda: "t" in looked)
    assert set(looked) == {"t"}


async def test_a_cursor_that_cannot_be_encoded_is_refused_and_does_not_stop_the_next(
    bed: GroupsBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(cursor: Cursor) -> bytes:
        raise CorruptRecord("too long")

    await ask(bed, joining("a", "1"))
    await until(lambda: len(bed.owner("t").inbox.users.cursors) == 1)
    await bed.publish("t", range(2))
    epoch = bed.epochs["t"]
    with monkeypatch.context() as faulty, pytest.raises(Refusal, match="internal"):
        faulty.setattr(group_cursors, "encode_cursor", broken)
        await ask(bed, lambda req: GroupAck(req, "t", epoch, "a", "1", [1], True))
    assert isinstance(await ask(bed, lambda req: GroupAck(req, "t", epoch, "a", "1", [2], True)), GroupAcked)
