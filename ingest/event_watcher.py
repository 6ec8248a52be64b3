"""One stream of lifecycle events: what waits for its client, and how it becomes Server-Sent Events."""

import asyncio
from collections import deque
from typing import Any, Final, Literal, NamedTuple

import msgspec

from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_events import HappenedEvent
from headgate.core.wire.rights import Identity

MAX_WAITING: Final = 1_000  # events of one stream that its client has not taken yet
MAX_WAITING_BYTES: Final = 256 * 1024
HEARTBEAT: Final = b":\n\n"
_ENDS: Final = {
    4401: "unauthenticated",
    4503: "overloaded",
    4601: "draining",
    4610: "token_expired",
}  # docs/protocol.md, section 4

GapReason = Literal["slow", "overloaded", "owner"]


class Gap(NamedTuple):
    """Events are missing here, so many of them, None where nobody knows how many."""

    reason: GapReason
    missing: int | None


class EventWatcher:
    """What waits for one client. Above a bound newer events are dropped, and their number is told in their place."""

    def __init__(self, wanted: EventFilter, identity: Identity) -> None:
        self.wanted = wanted
        self.identity = identity
        self.ended = 0  # the code of the `disconnect` with which it ends, 0 while it goes on
        self._waiting: deque[HappenedEvent | Gap] = deque()
        self._events = 0
        self._bytes = 0
        self._news = asyncio.Event()

    def offer(self, event: HappenedEvent) -> None:
        """Takes an event, if it is wanted."""
        if not self.wanted.takes(event.topic_id, event.event):
            return
        if self._events >= MAX_WAITING or self._bytes + len(event.data) > MAX_WAITING_BYTES:
            self.miss("slow", 1)
            return
        self._waiting.append(event)
        self._events += 1
        self._bytes += len(event.data)
        self._news.set()

    def miss(self, reason: GapReason, count: int | None) -> None:
        """Notes that events are missing behind what waits: behind an event there is at most one gap of each reason."""
        for at in range(-1, -1 - len(self._waiting), -1):
            gap = self._waiting[at]
            if not isinstance(gap, Gap):
                break
            if gap.reason == reason:
                both = None if gap.missing is None or count is None else gap.missing + count
                self._waiting[at] = Gap(reason, both)
                self._news.set()
                return
        self._waiting.append(Gap(reason, count))
        self._news.set()

    def end(self, code: int) -> None:
        """Ends the stream behind what waits."""
        self.ended = self.ended or code
        self._news.set()

    def wake(self) -> None:
        """Has `news` return: something about the caller may be different."""
        self._news.set()

    async def news(self, seconds: float) -> None:
        """Waits for something to write, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    def take(self) -> bytes:
        """Returns all that waits as it is written; empty when nothing does."""
        waiting, self._waiting = self._waiting, deque()
        self._events = self._bytes = 0
        return b"".join(map(_written, waiting))


def disconnect(code: int, retry_after_ms: int | None = None) -> bytes:
    """Returns the last event of a stream."""
    members: dict[str, Any] = {"type": "disconnect", "code": code, "reason": _ENDS[code], "reconnect": code >= 4500}
    return _named("disconnect", members if retry_after_ms is None else members | {"retry_after_ms": retry_after_ms})


def _written(one: HappenedEvent | Gap) -> bytes:
    if isinstance(one, HappenedEvent):
        return b"data: %b\n\n" % one.data
    return _named("gap", {"event": "gap", "reason": one.reason, "count": one.missing})


def _named(name: str, members: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(members))
