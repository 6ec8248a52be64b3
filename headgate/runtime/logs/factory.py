"""Makes a log from its options: the adapter that its URL names."""

from typing import assert_never

from headgate.runtime.logs.embedded import EMBEDDED_SHARDS
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.logs.options import KafkaUrl, LogOptions, SqliteUrl, parse_url
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import Clock, Log, Rng


def make_log(options: LogOptions, clock: Clock, rng: Rng) -> Log:
    """Returns the adapter of a URL, not yet opened. Raises ValueError for a malformed one."""
    url = parse_url(options.url)
    match url:
        case "memory:":
            shards = options.shards or EMBEDDED_SHARDS
            return MemoryLog(MemoryStore(clock, rng, shards, options.memory_bytes, options.keep_ms))
        case SqliteUrl(path):
            return SqliteLog(path, clock, rng, options.shards, options.keep_ms)
        case KafkaUrl():
            from headgate.runtime.logs.kafka_log import KafkaLog  # noqa: PLC0415  aiokafka costs an embedded log 0.2 s

            return KafkaLog(options)
        case _:
            assert_never(url)
