"""Members on Kafka: a user's topics are on his own shard, and survive owners that come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions, SnapshotOptions
from dispatcher.service import DispatcherService
from headgate.core.wire.control import Control, CreateTopic, DeleteTopic, RemoveMember, SetMember, encode_body
from headgate.core.wire.direct_topics import direct_topic_id
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import random_id, shard_of, topic_key
from headgate.core.wire.link_members import AskMemberships, MembershipsAnswer
from headgate.core.wire.records import LogName
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.system import SystemRng
from tests.dispatcher.bed import shell_of
from tests.dispatcher.members_bed import ROOT, Far

SHARDS = 2
OFTEN = SnapshotOptions(check_s=0.05, least_s=0.1, interval_s=0.2)
TOPICS = [next(f"t{n}" for n in range(99) if shard_of(f"t{n}".encode(), SHARDS) == shard) for shard in range(SHARDS)]
USERS = [next(f"u{n}" for n in range(99) if shard_of(f"u{n}".encode(), SHARDS) == shard) for shard in range(SHARDS)]


@pytest.fixture
async def log(kafka_bootstrap: str, log_prefix: str) -> AsyncIterator[KafkaLog]:
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=SHARDS)
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    yield log
    await log.close()


@asynccontextmanager
async def serving(log: KafkaLog, *, drain: bool) -> AsyncIterator[DispatcherService]:
    options = DispatcherOptions("n", "n:1", None, snapshots=OFTEN, assignment=AssignmentOptions(final_s=5.0))
    service = DispatcherService(options, log, shell_of())
    task = asyncio.create_task(service.run())
    async with asyncio.timeout(60):
        while len(service.dispatcher.owners) < SHARDS:
            await asyncio.sleep(0.05)
    try:
        yield service
    finally:
        if drain:
            await service.drain()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def append(log: KafkaLog, topic: str, control: Control, epoch: int = 0) -> int:
    key = topic_key(topic)
    value = encode_control(encode_body(control), epoch, random_id(key, SystemRng().entropy(12)))
    return (1 << 44) | (await log.append(LogName.MESSAGES, shard_of(key, SHARDS), key, value)).offset


async def topics_of(service: DispatcherService, user: str, expected: dict[str, str]) -> None:
    """Asks until the owner of the user's shard has these topics."""
    api = service.dispatcher.api(shard_of(user.encode(), SHARDS))
    assert api is not None
    found: dict[str, str] = {}
    for _ in range(400):
        peer = Far()
        api.handle(peer, AskMemberships(1, user, "", 10))
        if peer.sent:
            (answer,) = peer.sent
            assert isinstance(answer, MembershipsAnswer)
            found = {m.topic_id: m.role for m in answer.memberships}
            if found == expected:
                return
        await asyncio.sleep(0.05)
    assert found == expected


@pytest.mark.parametrize("drain", [True, False])
async def test_memberships_of_both_shards_survive_their_owners(log: KafkaLog, drain: bool) -> None:
    epochs: dict[str, int] = {}
    async with serving(log, drain=drain) as service:
        for topic in TOPICS:
            epochs[topic] = await append(log, topic, CreateTopic(topic, topic, "PRIVATE", "ann"))
            for user in USERS:
                await append(log, topic, SetMember(topic, user, "member", ROOT), epochs[topic])
        await append(log, TOPICS[0], RemoveMember(TOPICS[0], USERS[1], ROOT), epochs[TOPICS[0]])
        await topics_of(service, USERS[0], dict.fromkeys(TOPICS, "member"))
        await topics_of(service, USERS[1], {TOPICS[1]: "member"})
        await append(log, TOPICS[1], SetMember(TOPICS[1], USERS[0], "admin", ROOT), epochs[TOPICS[1]])
    async with serving(log, drain=False) as service:
        await topics_of(service, USERS[0], {TOPICS[0]: "member", TOPICS[1]: "admin"})
        await topics_of(service, USERS[1], {TOPICS[1]: "member"})
        await append(log, TOPICS[1], DeleteTopic(TOPICS[1]), epochs[TOPICS[1]])
        await topics_of(service, USERS[0], {TOPICS[0]: "member"})
        await topics_of(service, USERS[1], {})
        await topics_of(service, "ann", {TOPICS[0]: "owner"})


@pytest.mark.parametrize("drain", [True, False])
async def test_a_direct_topic_is_among_those_of_both_its_users(log: KafkaLog, drain: bool) -> None:
    topic = direct_topic_id(*USERS)
    async with serving(log, drain=drain) as service:
        epoch = await append(log, topic, CreateTopic(topic, topic, "PRIVATE", USERS[0], peer_id=USERS[1]))
        for user in USERS:
            await topics_of(service, user, {topic: "member"})
    async with serving(log, drain=False) as service:
        for user in USERS:
            await topics_of(service, user, {topic: "member"})
        await append(log, topic, RemoveMember(topic, USERS[1], ROOT), epoch)
        await append(log, topic, SetMember(topic, "eve", "member", ROOT), epoch)
        await append(log, topic, SetMember(topic, USERS[0], "admin", ROOT), epoch)
        await append(log, topic, CreateTopic(topic, topic, "PRIVATE", USERS[1], peer_id=USERS[0]))
        talk_with_oneself = direct_topic_id("eve", "eve")
        await append(log, talk_with_oneself, CreateTopic(talk_with_oneself, "n", "PRIVATE", "eve", peer_id="eve"))
        await topics_of(service, "eve", {talk_with_oneself: "member"})
        for user in USERS:
            await topics_of(service, user, {topic: "member"})
        await append(log, topic, DeleteTopic(topic), epoch)
        for user in USERS:
            await topics_of(service, user, {})
