"""Marks and missed messages on logs in memory and on Kafka: an owner that lost its index file answers the same."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.service import DispatcherService
from headgate.core.wire.control import LOGIC_KEY, MESSAGES_LOGIC, Actor, CreateTopic, Logic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import random_id, shard_of, topic_key
from headgate.core.wire.link import Message, Refused
from headgate.core.wire.link_inbox import AskMissed, Missed, MissedTopic, ResolvedMark, ResolveMark
from headgate.core.wire.message_changes import EditMessage, ReactToMessage, encode_event, event_tail
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng
from tests.dispatcher.bed import shell_of
from tests.dispatcher.members_bed import Far

SHARDS = 2
ANN = Caller("ann")
TOPICS = [f"t{n}" for n in range(12)]
HEAD = 40


@pytest.fixture(params=["memory", "kafka"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    log: Log
    if request.param == "memory":
        log = MemoryLog(MemoryStore(SystemClock(), SystemRng(), SHARDS))
    else:
        bootstrap, prefix = request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("log_prefix")
        options = LogOptions(f"kafka://{bootstrap}", prefix, shards=SHARDS)
        await init_kafka(options)
        log = KafkaLog(options)
    await log.open()
    yield log
    await log.close()


@asynccontextmanager
async def serving(log: Log, folder: Path) -> AsyncIterator[DispatcherService]:
    """An owner of both shards, with its index files in a folder; frames above 2 KB of them are in the log only."""
    folder.mkdir()
    service = DispatcherService(DispatcherOptions("n", "n:1", folder, frame_bytes=2_000), log, shell_of())
    task = asyncio.create_task(service.run())
    async with asyncio.timeout(60):
        while len(service.dispatcher.owners) < SHARDS:
            await asyncio.sleep(0.05)
    try:
        yield service
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def ask(service: DispatcherService, shard: int, question: Message) -> Any:
    api = service.dispatcher.api(shard)
    assert api is not None
    far = Far()
    far.later = lambda answer: bool(asyncio.get_running_loop().call_soon(answer))  # type: ignore[method-assign]
    api.handle(far, question)
    async with asyncio.timeout(20):
        while not far.sent:
            await asyncio.sleep(0.01)
    (answer,) = far.sent
    return answer


async def ask_patiently(service: DispatcherService, shard: int, question: Message) -> Any:
    """Asks again, as a busy owner says."""
    async with asyncio.timeout(30):
        while True:
            answer = await ask(service, shard, question)
            if not (isinstance(answer, Refused) and answer.code == "overloaded"):
                return answer
            await asyncio.sleep(answer.extra["retry_after_ms"] / 1_000)


async def fill(log: Log, topic: str) -> int:
    """A topic with HEAD seqs: of each four the third edits the first, the fourth is a reaction; returns its epoch."""
    key = topic_key(topic)
    shard = shard_of(key, SHARDS)

    async def append(value: bytes) -> int:
        return (await log.append(LogName.MESSAGES, shard, key, value)).offset

    def new_id() -> bytes:
        return random_id(key, SystemRng().entropy(12))

    epoch = 1 << 44 | await append(encode_control(encode_body(CreateTopic(topic, topic, "PUBLIC", "ann")), 0, new_id()))
    for first in range(1, HEAD, 4):
        tail = b'"message_id":"m","publisher_id":"bob","payload":"%b"}' % (b"x" * 100)
        place = await append(encode_message(Item(new_id(), 0, tail), epoch)) << 10
        await append(encode_message(Item(new_id(), 0, tail), epoch))
        edit, react = (
            EditMessage(first, place, 1, Actor("bob")),
            ReactToMessage(first, place, "+1", False, Actor("eve")),
        )
        for change in (edit, react):
            record_id = new_id()
            payload = b'"new"' if change is edit else b"null"
            await append(encode_event(change, event_tail(record_id, change, payload), epoch, record_id))
    return epoch


async def check(service: DispatcherService, epochs: dict[str, int]) -> None:
    for topic, epoch in epochs.items():
        shard = shard_of(topic_key(topic), SHARDS)
        for seq in range(0, HEAD + 1, 3):
            expected = 2 * (seq // 4) + min(seq % 4, 2)
            answer = await ask(service, shard, ResolveMark(1, topic, ANN, seq))
            assert answer == ResolvedMark(1, topic, epoch, seq, expected), (topic, seq)
    for shard in range(SHARDS):
        mine = [topic for topic in TOPICS if shard_of(topic_key(topic), SHARDS) == shard]
        places = [MissedTopic(topic, epochs[topic], 5) for topic in mine]
        answer = await ask_patiently(service, shard, AskMissed(1, shard, ANN, places, 1_000))
        assert isinstance(answer, Missed) and answer.whole, answer
        oldest = {topic.topic_id: json.loads(topic.frames[0])["ts"] for topic in answer.topics}
        assert set(oldest) == set(mine)
        in_order = sorted(mine, key=lambda topic: (oldest[topic], topic))  # in one millisecond: by their ids
        assert [topic.topic_id for topic in answer.topics] == in_order
        assert [oldest[topic] for topic in mine] == sorted(oldest.values()), "they were filled one after the other"
        for found in answer.topics:
            told = [json.loads(frame) for frame in found.frames]
            assert [frame["seq"] for frame in told] == [seq for seq in range(6, HEAD + 1) if seq % 4 in (1, 2)]
            assert [(frame["payload"], frame["version"]) for frame in told if frame["seq"] % 4 == 1] == [("new", 2)] * 8


async def test_the_next_owner_answers_the_same_at_once_though_it_has_no_index_file(log: Log, tmp_path: Path) -> None:
    logic = encode_control(encode_body(Logic(MESSAGES_LOGIC)), 0)
    for shard in range(SHARDS):
        await log.append(LogName.MESSAGES, shard, LOGIC_KEY, logic)
    async with serving(log, tmp_path / "first") as service:
        epochs = {topic: await fill(log, topic) for topic in TOPICS}
        await until_applied(service, epochs)
        await check(service, epochs)
    async with serving(log, tmp_path / "second") as service:  # killed: no last snapshot
        await check(service, epochs)


async def until_applied(service: DispatcherService, epochs: dict[str, int]) -> None:
    async with asyncio.timeout(20):
        while any(
            (row := service.dispatcher.owners[shard_of(topic_key(topic), SHARDS)].rows.get(topic_key(topic))) is None
            or row.seq < HEAD
            for topic in epochs
        ):
            await asyncio.sleep(0.02)
