"""Whether dispatchers run is asked of Kafka itself: also of one that has never had a group."""

import pytest

from headgate.core.wire.records import LogName
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.serving import StillServed, check_unserved
from headgate.runtime.ports import LogUnavailable
from tests.dispatcher.bed import until


async def test_a_log_is_served_from_the_first_member_to_the_last(kafka_bootstrap: str, log_prefix: str) -> None:
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=2)
    await init_kafka(options)
    await check_unserved(options)
    log = KafkaLog(options)
    await log.open()
    group = log.group("one")
    await group.start()
    await until(lambda: group.assigned() is not None, 30)
    with pytest.raises(StillServed, match="1 dispatchers run"):
        await check_unserved(options)
    await group.stop()
    await check_unserved(options)
    await log.bounds(LogName.MESSAGES, 0)
    await log.close()


async def test_nobody_can_say_while_kafka_is_away(log_prefix: str) -> None:
    with pytest.raises(LogUnavailable):
        await check_unserved(LogOptions("kafka://127.0.0.1:9", log_prefix))


async def test_an_embedded_log_has_one_user() -> None:
    await check_unserved(LogOptions("sqlite:some.db"))
