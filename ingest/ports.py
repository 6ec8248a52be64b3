"""Ports of ingest beyond `headgate.runtime.ports`: the message log behind its circuits, and the counters."""

import asyncio
from typing import Protocol

from headgate.core.wire.records import Appended


class Appends(Protocol):
    """Appends to the message log behind a circuit (headgate.runtime.appender)."""

    def append(self, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Hands a record over. The future fails with LogUnavailable, AppendUnknown or RecordTooLarge within 6 s."""

    def open_shards(self) -> list[int]:
        """Returns the shards whose circuit is open."""


class IngestMetrics(Protocol):
    """The counters of ingest (headgate.runtime.metrics)."""

    def publish(self, outcome: str, profile: str, count: int = 1) -> None:
        """Counts messages that were offered: `accepted`, `duplicate`, or the code of the refusal."""

    def appended(self, count: int, seconds: float) -> None:
        """Counts records that the log has acknowledged, `seconds` after they were handed over."""

    def unacknowledged(self, seconds: float) -> None:
        """Counts the time of a record whose acknowledgement was waited for in vain for `seconds`."""

    def history_read(self, seconds: float) -> None:
        """Counts a request for history that was answered with a page after `seconds`."""

    def refused(self, code: str, detail: str) -> None:
        """Counts a request that was answered with a problem."""


class NoMetrics:
    """Counts nothing."""

    def publish(self, outcome: str, profile: str, count: int = 1) -> None:
        """Counts nothing."""

    def appended(self, count: int, seconds: float) -> None:
        """Counts nothing."""

    def unacknowledged(self, seconds: float) -> None:
        """Counts nothing."""

    def history_read(self, seconds: float) -> None:
        """Counts nothing."""

    def refused(self, code: str, detail: str) -> None:
        """Counts nothing."""
