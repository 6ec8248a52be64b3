"""One link: HELLO, what waits for room, and what a closed link no longer gets."""

import asyncio

import pytest

from dispatcher import peer as module
from dispatcher.backlog import ABOVE
from dispatcher.lease import PAUSE_S, Lease
from dispatcher.peer import LOW_BYTES, Peer
from dispatcher.shard import LINK_BYTES
from headgate.core.wire import link, link_hello
from headgate.runtime.metrics import Metrics
from tests.dispatcher.bed import until

WELCOME = link_hello.Welcome(1, "n", "c", 1, 1, [])


class Clock:
    seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return 0


class Wire:
    """A link whose queue the test sets; it drains when the test says so."""

    def __init__(self) -> None:
        self.peer = self.role = self.reason = ""
        self.pending_bytes = 0
        self.sent: list[link.Message] = []
        self.room = asyncio.Event()
        self.room.set()

    def send(self, message: link.Message) -> None:
        self.sent.append(message)

    def close(self, reason: str) -> None:
        self.reason = reason

    async def drained(self, below: int) -> None:
        await self.room.wait()


class Bed:
    def __init__(self) -> None:
        self.clock = Clock()
        self.lease = Lease(self.clock)
        self.wire = Wire()
        self.peer = Peer(self.wire, self.lease, Metrics({"dispatcher"}))  # type: ignore[arg-type]


def hello(role: str = "gateway") -> link_hello.Hello:
    return link_hello.Hello(1, 1, role, "g1", "", 0)


async def test_a_hello_names_the_far_end_and_is_answered_once() -> None:
    bed = Bed()
    assert bed.peer.role == ""
    assert bed.peer.welcome(hello(), WELCOME)
    assert (bed.peer.role, bed.peer.name, bed.wire.sent, bed.wire.reason) == ("gateway", "g1", [WELCOME], "")


@pytest.mark.parametrize(
    ("proven", "welcome", "reason"),
    [("", "cluster a here b", "cluster a here b"), ("ingest", WELCOME, "was opened as ingest says that it is gateway")],
)
async def test_a_hello_that_is_refused_closes_the_link(
    proven: str, welcome: link_hello.Welcome | str, reason: str
) -> None:
    bed = Bed()
    bed.wire.role = proven
    assert not bed.peer.welcome(hello(), welcome)
    assert reason in bed.wire.reason
    assert (bed.peer.role, bed.wire.sent) == ("", [])


async def test_a_large_answer_waits_for_room_and_behind_those_before_it() -> None:
    bed = Bed()
    assert not bed.peer.must_wait(large=True)
    bed.wire.pending_bytes = LOW_BYTES
    assert bed.peer.must_wait(large=True)
    assert not bed.peer.must_wait(large=False)
    bed.wire.pending_bytes = 0
    assert bed.peer.later(lambda: None)
    assert bed.peer.must_wait(large=True)
    assert not bed.peer.must_wait(large=False)


async def test_after_a_pause_everything_waits_until_what_came_in_it_is_done() -> None:
    bed = Bed()
    bed.lease.beat()
    bed.clock.seconds = PAUSE_S + 1
    assert bed.peer.must_wait(large=False)
    done: list[str] = []
    bed.peer.later(lambda: done.append("first"))
    bed.lease.renew()
    assert bed.peer.must_wait(large=False), "it would overtake the first"
    pump = asyncio.create_task(bed.peer.pump())
    await until(lambda: done)
    assert not bed.peer.must_wait(large=False)
    pump.cancel()


async def test_requests_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    bed = Bed()
    assert [bed.peer.later(lambda: None) for _ in range(5)] == [True, True, True, False, False]


async def test_waiting_requests_are_answered_in_order_once_there_is_room() -> None:
    bed = Bed()
    bed.wire.room.clear()
    done: list[int] = []
    for number in range(3):
        bed.peer.later(lambda number=number: done.append(number))  # type: ignore[misc]
    pump = asyncio.create_task(bed.peer.pump())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done == []
    bed.wire.room.set()
    await until(lambda: len(done) == 3)
    assert done == [0, 1, 2]
    bed.peer.closed()
    await asyncio.wait_for(pump, 5)


async def test_a_fault_in_an_answer_ends_that_link_alone() -> None:
    bed = Bed()
    bed.peer.later(lambda: 1 // 0)  # type: ignore[arg-type]
    await asyncio.wait_for(bed.peer.pump(), 5)
    assert bed.wire.reason == "the dispatcher failed at this link"


async def test_only_a_message_that_has_an_answer_is_refused() -> None:
    bed = Bed()
    bed.peer.refuse(link.Leave("t", 1), "not_ready", "x")
    bed.peer.refuse(link.AskCount(7, 0, []), "not_ready", "x")
    assert bed.wire.sent == [link.Refused(7, "not_ready", "x")]


async def test_a_link_is_congested_above_its_bound() -> None:
    bed = Bed()
    bed.wire.pending_bytes = LINK_BYTES
    assert not bed.peer.congested
    bed.wire.pending_bytes += 1
    assert bed.peer.congested


async def test_messages_wait_on_a_link_that_is_not_nearly_empty() -> None:
    bed = Bed()

    def send(message: link.Message) -> None:
        bed.wire.pending_bytes += 1_000

    bed.wire.send = send  # type: ignore[method-assign]
    live = link.Messages("t", 1, 1, [0, 0], [b"a", b"b"])
    bed.peer.send(live)
    assert bed.peer.backlog == {}, "it is as good as sent"
    bed.wire.pending_bytes = ABOVE + 1
    bed.peer.send(live)
    bed.peer.send(link.EphemeralMessages("e", 1, [0], [b"a"]))
    bed.peer.send(link.Changed("t"))
    assert bed.peer.backlog == {"t": 2, "e": 1}
    bed.wire.pending_bytes = 2_000
    assert bed.peer.backlog == {"e": 1}
    bed.wire.pending_bytes = 0
    assert bed.peer.backlog == {}
