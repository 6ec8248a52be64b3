"""A Kafka log for the length of a block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions


@asynccontextmanager
async def opened_log(options: LogOptions) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(options)
    await log.open()
    try:
        yield log
    finally:
        await log.close()
