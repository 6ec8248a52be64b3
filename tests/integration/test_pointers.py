"""Pointers on sqlite and Kafka: inboxes have the heads of all topics of their users, over owners that change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.service import DispatcherService
from headgate.core.wire.control import CreateTopic, DeleteTopic, SetMember
from headgate.core.wire.direct_topics import direct_topic_id
from headgate.core.wire.envelope import Item, encode_bundle, encode_message
from headgate.core.wire.ids import random_id, shard_of, topic_key
from headgate.core.wire.records import LogName
from headgate.runtime.logs.factory import make_log
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng
from tests.dispatcher.members_bed import ROOT
from tests.integration.test_kafka_memberships import SHARDS, TOPICS, USERS, append, serving

TALK = direct_topic_id(*USERS)
BODY = b'"message_id":"x","publisher_id":"ann","payload":1}'


@pytest.fixture(params=["sqlite", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path, log_prefix: str) -> AsyncIterator[Log]:
    if request.param == "kafka":
        options = LogOptions(f"kafka://{request.getfixturevalue('kafka_bootstrap')}", log_prefix, shards=SHARDS)
        await init_kafka(options)
    else:
        options = LogOptions(f"sqlite:{tmp_path / 'log.db'}", log_prefix, shards=SHARDS)
    log = make_log(options, SystemClock(), SystemRng())
    await log.open()
    yield log
    await log.close()


async def publish(log: Log, topic: str, epoch: int, *, items: int = 1) -> None:
    key = topic_key(topic)
    made = [Item(random_id(key, SystemRng().entropy(12)), 0, BODY) for _ in range(items)]
    value = encode_message(made[0], epoch) if items == 1 else encode_bundle(made, epoch)
    await log.append(LogName.MESSAGES, shard_of(key, SHARDS), key, value)


Places = dict[tuple[str, str], tuple[int, int, int]]  # by user and topic: epoch, seq, n


def of_topics(service: DispatcherService) -> Places:
    found: Places = {}
    for owner in service.dispatcher.owners.values():
        for key, row in owner.rows.items():
            for user, _ in owner.shard.members_above(key, row, "", 99):
                found[user, row.topic_id] = (row.epoch, row.seq, row.n)
    return found


def of_users(service: DispatcherService) -> Places:
    found: Places = {}
    for owner in service.dispatcher.owners.values():
        users = owner.inbox.users
        for user in (*USERS, "ann"):
            for topic, _ in users.topics_of(user, "", 99):
                head = users.heads.find(topic)
                if head is not None:
                    found[user, topic] = (head.epoch, head.seq, head.n)
    return found


async def agree(service: DispatcherService, messages: dict[str, int]) -> None:
    """Waits until topics have so many messages, and inboxes say so."""
    topics: Places = {}
    for _ in range(400):
        topics = of_topics(service)
        if {topic: n for (_, topic), (_, _, n) in topics.items()} == messages and of_users(service) == topics:
            return
        await asyncio.sleep(0.05)
    assert {topic: n for (_, topic), (_, _, n) in topics.items()} == messages
    assert of_users(service) == topics


@pytest.mark.parametrize("drain", [True, False])
async def test_the_inboxes_of_all_members_say_where_topics_are_over_owners_that_change(log: Any, drain: bool) -> None:
    epochs: dict[str, int] = {}
    async with serving(log, drain=drain) as service:
        for topic in TOPICS:
            epochs[topic] = await append(log, topic, CreateTopic(topic, topic, "PRIVATE", "ann"))
            await append(log, topic, SetMember(topic, USERS[0], "member", ROOT), epochs[topic])
        epochs[TALK] = await append(log, TALK, CreateTopic(TALK, "n", "PRIVATE", USERS[0], peer_id=USERS[1]))
        epochs["alone"] = await append(log, "alone", CreateTopic("alone", "n", "PUBLIC", "ann"))
        for topic, epoch in epochs.items():
            await publish(log, topic, epoch)
            await publish(log, topic, epoch, items=200)
        await agree(service, dict.fromkeys(epochs, 201))
        for topic, epoch in epochs.items():
            await publish(log, topic, epoch)  # perhaps behind the last snapshot, and its pointer not written
    async with serving(log, drain=False) as service:
        await agree(service, dict.fromkeys(epochs, 202))
        gone = TOPICS[0]
        await append(log, gone, DeleteTopic(gone), epochs.pop(gone))
        epochs[gone] = await append(log, gone, CreateTopic(gone, gone, "PRIVATE", USERS[1]))
        await publish(log, gone, epochs[gone])
        await agree(service, dict.fromkeys(epochs, 202) | {gone: 1})
