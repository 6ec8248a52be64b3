"""Limits, the parts of each log, the config record and futures, for all adapters; and the base of embedded logs."""

import asyncio
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from headgate.core.wire.control import CONFIG_KEY, LOGIC, Config, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.records import Appended, LogName
from headgate.runtime.ports import BACKGROUND, LogError, LogUnavailable, OwnerGroup, RecordTooLarge, Rng

EMBEDDED_SHARDS: Final = 4  # one process serves them all: more would only cost more snapshots
MAX_RECORD_BYTES: Final = 1_000_000  # Kafka's default takes 1,048,588 with its own framing; one limit for all adapters
RECORD_OVERHEAD: Final = 64  # of one record, for the byte counts that bound queues and memory
APPEND_WAIT_S: Final = 6.0  # a little over the Kafka producer's request_timeout_ms of 5 s, which ends first
DAY_MS: Final = 86_400_000
KEEP_MS: Final = {LogName.MESSAGES: 7 * DAY_MS, LogName.INBOX: 7 * DAY_MS, LogName.DEAD_LETTERS: 30 * DAY_MS}
SINGLE_PART: Final = frozenset({LogName.REVOCATIONS})

Place = tuple[LogName, int]


class SettingsConflict(HeadgateError):
    """A setting differs from the log's own value; the command line exits with 2."""


class EmbeddedLog:
    """The members that both embedded logs share: state, refusals, counters, the group."""

    owner_deletes = True
    own_clock = True

    def __init__(self, address: str, keep_ms: Mapping[LogName, int]) -> None:
        self.address = address
        self.keep_ms = keep_ms
        self.records_read: dict[str, int] = read_counts()
        self._opened = False

    @property
    def shards(self) -> int:
        """The number of parts of the message log."""
        raise NotImplementedError

    def group(self, node: str) -> OwnerGroup:
        """Returns the group of the only member."""
        return EmbeddedGroup(self.shards)

    def check_open(self) -> None:
        """Raises LogUnavailable when the log is closed."""
        if not self._opened:
            raise LogUnavailable(f"{self.address} is closed")

    def _refusal(self, log: LogName, size: int) -> LogError | None:
        """Returns the error for a record of `size` bytes that cannot be taken now, None for one that can."""
        if not self._opened:
            return LogUnavailable(f"{self.address} is closed")
        if size > MAX_RECORD_BYTES:
            return too_large(size)
        return self._full(log)

    def _full(self, log: LogName) -> LogUnavailable | None:
        """Returns the error while the adapter has no room for another record."""
        raise NotImplementedError


class EmbeddedGroup:
    """The group of a log that only one process can open: its member owns every shard."""

    def __init__(self, shards: int) -> None:
        self.changed = asyncio.Event()
        self._all = frozenset(range(shards))
        self._joined = False

    async def start(self) -> None:
        """Joins; the assignment is known at once."""
        self._joined = True
        self.changed.set()

    def assigned(self) -> frozenset[int] | None:
        """Returns all shards, None before `start` and after `stop`."""
        return self._all if self._joined else None

    async def stop(self) -> None:
        """Leaves."""
        self._joined = False
        self.changed.set()


def counter_of(log: LogName, *, background: bool) -> str:
    """Returns the name under which an adapter counts the records of a reader."""
    return f"{log}{BACKGROUND}" if background else str(log)


def read_counts() -> dict[str, int]:
    """Returns the counters of records read, all 0."""
    return {counter_of(log, background=background): 0 for background in (False, True) for log in LogName}


def parts_of(log: LogName, shards: int) -> int:
    """Returns the number of parts of a log: one a shard, or a single one for a log without shards."""
    return 1 if log in SINGLE_PART else shards


def all_places(shards: int) -> list[Place]:
    """Returns every (log, shard) of a deployment."""
    return [(log, shard) for log in LogName for shard in range(parts_of(log, shards))]


def new_cluster_id(rng: Rng) -> str:
    """Returns the text of a random UUID."""
    return str(UUID(bytes=rng.entropy(16), version=4))


def config_record(cluster_id: str, shards: int, shard: int, generation: int = 1) -> tuple[bytes, bytes]:
    """Returns key and value of the config record, the first record of a shard's message log: a new log has LOGIC."""
    config = Config(cluster_id=cluster_id, generation=generation, shards=shards, shard=shard, logic=LOGIC)
    return CONFIG_KEY, encode_control(encode_body(config), 0)


def record_bytes(key: bytes | None, value: bytes | None) -> int:
    """Returns the bytes of a record's key and value."""
    return (len(key) if key else 0) + (len(value) if value else 0)


def too_large(size: int) -> RecordTooLarge:
    """Returns the error for a record of `size` bytes."""
    return RecordTooLarge(f"a record of {size} bytes, the log takes {MAX_RECORD_BYTES}")


def failed(error: LogError) -> "asyncio.Future[Appended]":
    """Returns a future that has failed; asyncio does not complain when nobody awaits it."""
    future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
    fail(future, error)
    return future


def fail(future: "asyncio.Future[Appended]", error: LogError) -> None:
    """Fails a future unless it is done or cancelled; asyncio does not complain when nobody awaits it."""
    if future.done():
        return
    future.set_exception(error)
    future.exception()


def resolve(future: "asyncio.Future[Appended]", place: Appended) -> None:
    """Ends a future with a place unless it is done or cancelled."""
    if not future.done():
        future.set_result(place)
