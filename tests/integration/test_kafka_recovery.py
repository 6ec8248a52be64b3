"""H6: a foreign transaction's markers at the end of what retention left do not park a shard."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.records import LogName
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from tests.dispatcher.bed import owning

KEY = topic_key("t")


@pytest.fixture
async def log(kafka_bootstrap: str, log_prefix: str) -> AsyncIterator[KafkaLog]:
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=1)
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    yield log
    await log.close()


@pytest.mark.parametrize("commit", [True, False])
async def test_h6_a_shard_whose_log_ends_with_a_transaction_marker_comes_back(
    log: KafkaLog, kafka_bootstrap: str, log_prefix: str, commit: bool
) -> None:
    control = CreateTopic(topic_id="t", name="t", permissions="PUBLIC", owner_id="ann")
    await log.append(LogName.MESSAGES, 0, KEY, encode_control(encode_body(control), 0, keyed_id(KEY, "ann", "1")))
    async with owning(log, final=True) as runner:
        async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=f"{log_prefix}-x") as foreign:
            await foreign.begin_transaction()
            await foreign.send_and_wait(f"{log_prefix}.messages", b'{"a":1}', key=b"t", partition=0)
            await (foreign.commit_transaction() if commit else foreign.abort_transaction())
        assert runner.owner is not None
        end = 4  # behind the config, the topic, the foreign record and its marker
        async with asyncio.timeout(20):
            while runner.owner.shard.next_offset < end:
                await asyncio.sleep(0.05)
        assert runner.owner.rows[KEY].seq == int(commit)
    await log.truncate_before(LogName.MESSAGES, 0, end)  # retention
    bounds = await log.bounds(LogName.MESSAGES, 0)
    assert bounds.first == bounds.end == end
    async with owning(log) as runner:
        assert runner.owner is not None
        assert (runner.life.state, runner.why) == (ShardState.LIVE, "")
        assert runner.owner.rows[KEY].seq == int(commit)
