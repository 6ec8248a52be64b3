"""What waits for one client is bounded, in count and bytes; what does not fit is told in its place, with its number."""

import asyncio

from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_events import HappenedEvent
from headgate.core.wire.rights import Caller, Identity
from ingest.event_watcher import MAX_WAITING, MAX_WAITING_BYTES, EventWatcher, disconnect

IDENTITY = Identity(Caller("root", admin=True))


def _watcher(wanted: EventFilter | None = None) -> EventWatcher:
    return EventWatcher(wanted or EventFilter(), IDENTITY)


def _event(n: int = 1, topic: str = "t", event: str = "failed") -> HappenedEvent:
    return HappenedEvent(topic, event, b"%d" % n)


def test_events_are_written_as_default_events_in_order_and_only_once() -> None:
    watcher = _watcher(EventFilter(("t",), ("failed",)))
    for event in (_event(1), _event(2, topic="u"), _event(3, event="delivered"), _event(4)):
        watcher.offer(event)
    assert watcher.take() == b"data: 1\n\ndata: 4\n\n"
    assert watcher.take() == b""


def test_above_the_count_newer_ones_are_dropped_and_their_number_is_told_behind_the_rest() -> None:
    watcher = _watcher()
    for n in range(MAX_WAITING + 3):
        watcher.offer(_event(n))
    text = watcher.take()
    assert text.count(b"data: ") == MAX_WAITING + 1
    assert text.endswith(
        b'data: %d\n\nevent: gap\ndata: {"event":"gap","reason":"slow","count":3}\n\n' % (MAX_WAITING - 1)
    )
    watcher.offer(_event(9))
    assert watcher.take() == b"data: 9\n\n"


def test_above_the_bytes_too() -> None:
    watcher, large = _watcher(), HappenedEvent("t", "failed", b"x" * 10_000)
    for _ in range(MAX_WAITING_BYTES // 10_000 + 5):
        watcher.offer(large)
    text = watcher.take()
    assert text.count(b"x" * 10_000) == MAX_WAITING_BYTES // 10_000
    assert b'"count":5' in text


def test_gaps_of_one_reason_are_one_gap_and_an_unknown_number_stays_unknown() -> None:
    watcher = _watcher()
    watcher.miss("overloaded", 2)
    watcher.miss("overloaded", 3)
    watcher.miss("owner", None)
    watcher.miss("owner", None)
    watcher.offer(_event())
    watcher.miss("owner", None)
    gaps = watcher.take().split(b"\n\n")
    assert gaps == [
        b'event: gap\ndata: {"event":"gap","reason":"overloaded","count":5}',
        b'event: gap\ndata: {"event":"gap","reason":"owner","count":null}',
        b"data: 1",
        b'event: gap\ndata: {"event":"gap","reason":"owner","count":null}',
        b"",
    ]


def test_a_client_that_never_reads_has_one_gap_of_each_reason_however_they_alternate() -> None:
    watcher = _watcher()
    for n in range(MAX_WAITING):
        watcher.offer(_event(n))
    for n in range(100):
        watcher.offer(_event(n))
        watcher.miss("overloaded", 2)
        watcher.miss("owner", None)
    *events, slow, overloaded, owner, end = watcher.take().split(b"\n\n")
    assert (slow, overloaded, owner, end) == (
        b'event: gap\ndata: {"event":"gap","reason":"slow","count":100}',
        b'event: gap\ndata: {"event":"gap","reason":"overloaded","count":200}',
        b'event: gap\ndata: {"event":"gap","reason":"owner","count":null}',
        b"",
    )
    assert len(events) == MAX_WAITING


async def test_news_wakes_at_once_and_otherwise_after_its_time() -> None:
    watcher = _watcher()
    await watcher.news(0.01)
    watcher.offer(_event())
    async with asyncio.timeout(5):
        await watcher.news(60)
    watcher.wake()
    async with asyncio.timeout(5):
        await watcher.news(60)


def test_the_first_end_counts_and_its_code_tells_whether_to_come_back() -> None:
    watcher = _watcher()
    watcher.end(4601)
    watcher.end(4401)
    assert watcher.ended == 4601
    assert disconnect(4401) == (
        b'event: disconnect\ndata: {"type":"disconnect","code":4401,"reason":"unauthenticated","reconnect":false}\n\n'
    )
    assert b'"reconnect":true,"retry_after_ms":5000' in disconnect(4503, 5_000)
