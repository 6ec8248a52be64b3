"""The ports through which the services reach the world: time, randomness, logs, links. Each has an in-memory twin."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.link import Message
from headgate.core.wire.records import Appended, Batch, Bounds, LogName

BACKGROUND = "-background"

M_co = TypeVar("M_co", covariant=True)
OnMessages = Callable[[list[Message]], None]
OnClose = Callable[[str], None]


def ignore(_anything: object) -> None:
    """Does nothing: the callback of a user who wants no call."""


class Clock(Protocol):
    """Time. On the simulation's loop both clocks are virtual."""

    def now(self) -> float:
        """Returns monotonic seconds; only differences have a meaning."""

    def wall_ms(self) -> int:
        """Returns Unix milliseconds; for `server_time` and token expiry, never for order."""


class Rng(Protocol):
    """Randomness; it is passed in so that a run can be repeated."""

    def random(self) -> float:
        """Returns a float in [0, 1)."""

    def entropy(self, count: int) -> bytes:
        """Returns `count` random bytes."""


class Shell(NamedTuple, Generic[M_co]):
    """The values that every object of a process shares: time, randomness, and the numbers they count."""

    clock: Clock
    rng: Rng
    metrics: M_co


class LogError(HeadgateError):
    """Root of the errors that a log raises."""


class LogUnavailable(LogError):
    """The log cannot be reached; nothing was handed over, so a refused append will never appear."""


class AppendUnknown(LogError):
    """An append was handed over and its outcome is unknown: the record may be in the log, now or later."""


class RecordTooLarge(LogError):
    """The record is larger than the log takes; it was not written."""


class OffsetGone(LogError):
    """The requested offset is below `first` or above `end`; the log holds `first` to `end` - 1."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__(f"the log holds offsets {first} to {end - 1}")
        self.first = first
        self.end = end


class Reader(Protocol):
    """A position in one part of one log. Used by one task at a time."""

    async def read(self, max_records: int, wait_s: float) -> Batch:
        """Returns the next records, at most `max_records`; after `wait_s` seconds without any an empty batch.

        Returns at once when records are there, and within a millisecond or so of their append while waiting.
        Raises OffsetGone (then open another reader) or LogUnavailable (the reader stays usable).
        """

    async def close(self) -> None:
        """Gives up the position."""


class OwnerGroup(Protocol):
    """Membership of a dispatcher among the owners of the shards (docs/architecture.md)."""

    changed: asyncio.Event  # set by the adapter whenever `assigned` may differ; cleared by the user

    async def start(self) -> None:
        """Joins. Raises LogUnavailable."""

    def assigned(self) -> frozenset[int] | None:
        """Returns the shards this member should own; None while it is no member and its assignment is unknown."""

    async def stop(self) -> None:
        """Leaves at once, so that others take over without waiting for a session timeout."""


class Log(Protocol):
    """All logs by name. An adapter is opened once a process. Offsets are dense enough to compare, never begin at 0."""

    durable: bool  # whether what was acknowledged outlives the process
    address: str  # for messages to people: where the log is, without credentials
    records_read: dict[str, int]  # by log's name; of background readers by that and BACKGROUND
    keep_ms: Mapping[LogName, int]  # how long records are kept, and what an owner has made of them
    owner_deletes: bool  # whether the owners have to delete old records; else the log does so itself
    own_clock: bool  # whether the append times are of this process's clock, and so say nothing about it

    async def open(self) -> None:
        """Connects; creates an embedded log that does not exist. Raises LogUnavailable, SettingsConflict."""

    async def close(self) -> None:
        """Waits for the appends that were handed over, and disconnects."""

    @property
    def shards(self) -> int:
        """The number of parts of the message log. Valid after `open`."""

    @property
    def cluster_id(self) -> str:
        """The identity of the cluster or file: another one means other data. Valid after `open`."""

    def append(
        self,
        log: LogName,
        shard: int,
        key: bytes | None,
        value: bytes | None,
    ) -> "asyncio.Future[Appended]":
        """Hands one record over and returns a future of its place; never blocks and never raises itself.

        Records of one part get their places in the order of the calls. The future is done once the log holds the
        record for good (acks=all, or a commit). It fails with LogUnavailable (not handed over), RecordTooLarge,
        or AppendUnknown. Cancelling the future does not take the record back.
        """

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> Reader:
        """Opens a position. `offset` may be anything from `first` to `end`.

        Records of a `background` reader are counted apart: nobody waits for them.
        """

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns the offsets that a part holds. Raises LogUnavailable."""

    async def truncate_before(self, log: LogName, shard: int, offset: int) -> None:
        """Forgets all records of a part before `offset`. Raises LogUnavailable."""

    def above_limit(self) -> bool:
        """Returns whether the log holds more than its own bound: its owner then truncates behind a snapshot."""

    def group(self, node: str) -> OwnerGroup:
        """Returns this node's membership (not yet joined). An embedded log has one member that owns every shard."""


class Link(Protocol):
    """One end of a connection between a gateway or ingest and a dispatcher; messages arrive in order or not at all."""

    peer: str  # the far end's node name once HELLO was exchanged; for log lines
    role: str  # the role that a client proved when the link was opened; "" within one process
    far_has_left: bool  # once the link has ended: whether the far end closed it because its process stops

    def deliver_to(self, on_messages: OnMessages = ignore, on_close: OnClose = ignore) -> None:
        """Names the functions that this end calls, on the loop. A later call replaces them.

        `on_messages` gets each batch as it arrives; what arrives before the first `deliver_to` is dropped. `on_close`
        is called once, with the reason, when the far end is gone or `close` was called.
        """

    def send(self, message: Message) -> None:
        """Queues a message; messages of one loop turn leave in one batch. Nothing happens on a closed link."""

    @property
    def pending_bytes(self) -> int:
        """Bytes queued and not yet taken by the socket (estimated in the in-memory twin)."""

    async def drained(self, below: int) -> None:
        """Waits until `pending_bytes` is below `below`, or the link is closed."""

    def close(self, reason: str) -> None:
        """Ends the link; queued messages may be lost."""
