"""The log contract over all adapters."""

from pathlib import Path

import pytest

from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.log_suite import LogContract, Rig, SystemClock, SystemRng


class TestMemoryLog(LogContract):
    @pytest.fixture
    def rig(self) -> Rig:
        return Rig(lambda: MemoryLog(MemoryStore(SystemClock(), SystemRng())), shards=4, embedded=True)


class TestFaultyLog(LogContract):
    """Without a fault the log of the simulation behaves like all others."""

    @pytest.fixture
    def rig(self) -> Rig:
        return Rig(lambda: FaultyLog(MemoryStore(SystemClock(), SystemRng())), shards=4, embedded=True)


class TestSqliteLog(LogContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Rig:
        path = tmp_path / "data" / "log.db"
        return Rig(lambda: SqliteLog(path, SystemClock(), SystemRng()), shards=4, embedded=True)


class TestKafkaLog(LogContract):
    @pytest.fixture
    async def rig(self, kafka_bootstrap: str, log_prefix: str) -> Rig:
        options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=4)
        await init_kafka(options)
        return Rig(lambda: KafkaLog(options), shards=4, embedded=False)
