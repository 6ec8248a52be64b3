"""GET /api/v1/events: streams of lifecycle events for operators, from the owners of all shards."""

from collections.abc import AsyncIterator
from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.event_names import MAX_TOPICS, EventFilter, EventName
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link_events import EventsHappened, WatchEvents
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.endpoints import EVENT_STREAM
from headgate.runtime.http.queries import fields_of
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Clock, Rng
from headgate.runtime.tokens import Authenticator
from ingest.event_watcher import HEARTBEAT, EventWatcher, disconnect
from ingest.rates import Rates

MAX_STREAMS: Final = 20  # of one process: each takes at most 256 KiB, and a part of every owner's time
MAX_PER_S: Final = 5_000  # events that an ingest looks at, for all streams: 100,000 looks a second
HEARTBEAT_S: Final = 15.0
RETRY_LOW_MS: Final = 1_000
RETRY_SPAN_MS: Final = 2_000
_NAMES: Final = frozenset(EventName)
_HEADERS: Final = ((b"cache-control", b"no-transform"), (b"x-accel-buffering", b"no"))
_UNAUTHENTICATED, _OVERLOADED, _DRAINING, _EXPIRED = 4401, 4503, 4601, 4610


class EventStreams:
    """The streams of one ingest. Each owner is told what they want together; without a stream nobody is told anything.

    A stream goes on when a shard changes hands: the new owner is told too, and the client that some may be missing.
    """

    def __init__(
        self, directory: Directory, authenticator: Authenticator, rates: Rates, clock: Clock, rng: Rng
    ) -> None:
        self._directory = directory
        self._authenticator = authenticator
        self._rates = rates
        self._clock = clock
        self._rng = rng
        self._watchers: dict[EventWatcher, None] = {}
        self._told: dict[int, EventFilter] = {}  # what each shard's owner was told, where that is anything
        self._draining = False
        self._second = clock.now()  # when the present second began
        self._room = MAX_PER_S  # events that may still be looked at in it

    # -- the handler

    async def watch(self, call: Call) -> Reply:
        """GET: the stream. Raises Refusal `forbidden` or `bad_request`.

        What heals by waiting is a stream that ends at once, so that an EventSource comes back (section 5).
        """
        if not call.caller.admin or call.caller.only:
            raise Refusal("forbidden", "lifecycle events are for tokens with the claim admin")
        wanted = _wanted(call.query_string)
        retry = b"retry: %d\n\n" % (RETRY_LOW_MS + int(self._rng.random() * RETRY_SPAN_MS))
        stream = self._stream(retry, EventWatcher(wanted, call.identity))
        return Reply(200, b"", _HEADERS, EVENT_STREAM.encode() + b"; charset=utf-8", stream)

    def _busy(self, caller: Caller) -> bytes:
        """Returns the end of a stream that cannot be served now, empty where it can."""
        if self._draining:
            return disconnect(_DRAINING)
        if len(self._watchers) >= MAX_STREAMS:
            return disconnect(_OVERLOADED, 5_000)
        try:
            self._rates.read(caller)
        except Refusal as refusal:
            return disconnect(_OVERLOADED, refusal.retry_after_ms)
        return b""

    async def _stream(self, retry: bytes, watcher: EventWatcher) -> AsyncIterator[bytes]:
        end = self._busy(watcher.identity.caller)
        if end:
            yield retry + end
            return
        self._watchers[watcher] = None
        try:
            self._tell_all()
            yield retry
            while not watcher.ended:
                await watcher.news(self._patience(watcher.identity))
                if self._check(watcher):
                    yield watcher.take() or HEARTBEAT
            yield disconnect(watcher.ended)
        finally:
            self._watchers.pop(watcher, None)
            self._tell_all()

    def _patience(self, identity: Identity) -> float:
        if identity.expires_at is None:
            return HEARTBEAT_S
        return min(HEARTBEAT_S, max(identity.expires_at - self._clock.wall_ms() / 1_000, 0.0) + 0.001)

    def _check(self, watcher: EventWatcher) -> bool:
        """Returns whether the caller's token is still good; ends the stream of one that is not."""
        identity = watcher.identity
        if self._authenticator.revoked.voids(identity.caller.user_id, identity.jti, identity.issued_ms):
            watcher.end(_UNAUTHENTICATED)
        elif identity.expires_at is not None and self._clock.wall_ms() >= identity.expires_at * 1_000:
            watcher.end(_EXPIRED)
        else:
            return True
        return False

    # -- the owners

    def happened(self, batch: EventsHappened) -> None:
        """Takes what an owner sends; above MAX_PER_S only their number."""
        now = self._clock.now()
        if now - self._second >= 1.0:
            self._second, self._room = now, MAX_PER_S
        taken = batch.events[: self._room]
        self._room -= len(taken)
        dropped = batch.dropped + len(batch.events) - len(taken)
        for watcher in self._watchers:
            for event in taken:
                watcher.offer(event)
            if dropped:
                watcher.miss("overloaded", dropped)

    def on_owner(self, shard: int, up: bool) -> None:
        """A shard has another owner, or none. What happened until the new one was told is lost."""
        self._told.pop(shard, None)
        if not up:
            return
        for watcher in self._watchers:
            if self._concerns(watcher, shard):
                watcher.miss("owner", None)
        self._tell(shard)

    def revoked(self) -> None:
        """Tokens were revoked: the streams of those end."""
        for watcher in self._watchers:
            watcher.wake()

    def begin_drain(self) -> None:
        """Ends all streams, and later ones at once; their clients go to another ingest."""
        self._draining = True
        for watcher in self._watchers:
            watcher.end(_DRAINING)

    def _tell_all(self) -> None:
        for shard in range(self._directory.shards):
            self._tell(shard)

    def _tell(self, shard: int) -> None:
        """Tells a shard's owner what is wanted, if that is different from what it was told."""
        if not self._directory.linked(shard):
            return
        wanted: EventFilter | None = None
        for watcher in self._watchers:
            if self._concerns(watcher, shard):
                wanted = watcher.wanted if wanted is None else wanted.merged(watcher.wanted)
        if wanted == self._told.get(shard):
            return
        if wanted is None:
            del self._told[shard]
        else:
            self._told[shard] = wanted
        self._directory.send(shard, WatchEvents(shard, wanted))

    def _concerns(self, watcher: EventWatcher, shard: int) -> bool:
        topics = watcher.wanted.topics
        return not topics or any(self._directory.shard_of(topic_id) == shard for topic_id in topics)


def _wanted(query_string: bytes) -> EventFilter:
    """Reads the filters, each of which may be repeated. Raises Refusal `bad_request` or `invalid_topic_id`."""
    fields, _ = fields_of(query_string)
    topics = {check_topic_id(value) for name, value in fields if name == "topic_id"}
    events = {value for name, value in fields if name == "event"}
    if len(topics) > MAX_TOPICS:
        raise Refusal("bad_request", f"the query names {len(topics)} topics, at most {MAX_TOPICS} are taken")
    unknown = sorted(events - _NAMES)
    if unknown:
        raise Refusal("bad_request", f"event {unknown[0][:64]!r} is none; known are {', '.join(EventName)}")
    return EventFilter(tuple(sorted(topics)), tuple(sorted(events)))
