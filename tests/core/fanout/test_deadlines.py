"""What time does to a session, on values: who is visited when, warned, parked, and ended with which code."""

from itertools import pairwise

import pytest

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.deadlines import Deadlines, Ending
from headgate.core.fanout.faults import Faults
from headgate.core.fanout.session import Session
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Pipe, Scene
from tests.numbers_twin import Numbers
from tests.owners_twin import Owners


class Watch:
    """One session under its deadlines, and the endings that were returned."""

    def __init__(self, limits: Limits | None = None, *, sse: bool = False, preface: bytes = b"") -> None:
        self.limits = limits or Limits()
        self.scene = Scene(self.limits)
        self.catchup = CatchUp(self.limits, Owners(), Numbers())
        self.faults = Faults()
        self.deadlines = Deadlines(self.limits, self.catchup, self.scene.now, self.faults)
        self.pipe = Pipe(self.scene)
        framing = SSE if sse else WEBSOCKET
        self.session = Session(self.pipe, framing, b"c", self.scene.now, preface)
        self.begin = self.scene.now
        self.deadlines.watch(self.session)

    def identify(self, expires_at: float | None = None) -> None:
        self.session.identify(Identity(Caller("bob"), expires_at), self.scene.moment)

    def run(self, seconds: float, *, alive: bool = True) -> list[Ending]:
        endings = []
        for _ in range(int(seconds * 4)):
            self.scene.now += 0.25
            if alive:
                self.session.hear(self.scene.now)
            endings += self.deadlines.tick(self.scene.now)
        return endings


def test_the_wait_for_auth_ends_with_4408_and_not_before() -> None:
    watch = Watch()
    watch.session.await_auth(watch.begin + 5)
    assert watch.run(4.75) == []
    assert watch.run(1) == [Ending(watch.session, 4408)], "once"
    assert watch.run(60) == []


def test_who_authenticates_in_time_is_visited_on() -> None:
    watch = Watch()
    watch.session.await_auth(watch.begin + 5)
    watch.run(2)
    watch.identify()
    assert watch.run(40) == [] and b"\x89\x00" in watch.pipe.data


def test_a_websocket_that_sends_nothing_is_dead_and_a_stream_is_not() -> None:
    for sse, expected in ((False, 4602), (True, None)):
        watch = Watch(sse=sse)
        watch.identify()
        assert watch.run(59.75, alive=False) == []
        endings = watch.run(7, alive=False)
        assert [ending.code for ending in endings] == ([] if expected is None else [expected])


def test_a_token_s_end_is_warned_of_once_and_ends_with_4610() -> None:
    watch = Watch(Limits(expiry_warning_s=10))
    watch.identify(watch.begin + 30)
    assert watch.run(19.75) == [] and b"token_expiring" not in watch.pipe.data
    assert watch.run(9) == [] and watch.pipe.data.count(b"token_expiring") == 1
    assert [ending.code for ending in watch.run(2)] == [4610]


def test_a_fresh_token_is_warned_of_again() -> None:
    watch = Watch(Limits(expiry_warning_s=10))
    watch.identify(watch.begin + 12)
    watch.run(8)
    watch.identify(watch.scene.now + 15)
    assert watch.pipe.data.count(b"token_expiring") == 1 and not watch.session.warned
    watch.run(11)
    assert watch.pipe.data.count(b"token_expiring") == 2


def test_a_warning_says_how_many_milliseconds_are_left() -> None:
    watch = Watch(Limits(expiry_warning_s=10))
    watch.identify(watch.begin + 30)
    watch.deadlines.tick(watch.begin + 20.5)
    assert [frame["in_ms"] for frame in watch.pipe.frames("token_expiring")] == [9_500]


def test_a_token_s_end_is_not_waited_for_until_the_next_visit() -> None:
    watch = Watch()
    watch.identify(watch.begin + 7)
    assert watch.run(6.75) == []
    assert [ending.code for ending in watch.run(0.5)] == [4610]


def test_a_stream_cannot_refresh_and_is_not_warned() -> None:
    watch = Watch(Limits(expiry_warning_s=10), sse=True)
    watch.identify(watch.begin + 5)
    assert watch.run(4) == [] and b"token_expiring" not in watch.pipe.data


def test_a_preface_waits_for_the_owner_and_not_for_a_heartbeat() -> None:
    watch = Watch(sse=True, preface=b"HEAD")
    watch.identify()
    watch.run(20)
    assert watch.pipe.data == b""
    watch.session.put(b"x")
    watch.run(20)
    assert watch.pipe.data.startswith(b"HEADx:\n\n")


def test_the_preface_of_a_websocket_whose_user_is_known_waits_until_the_first_visit() -> None:
    watch = Watch(preface=b"HEAD")
    watch.identify()
    assert watch.pipe.data == b""
    watch.run(0.5)
    assert watch.pipe.data == b"HEAD"
    unknown = Watch(preface=b"HEAD")
    unknown.run(1)
    assert unknown.pipe.data == b""


def test_a_socket_that_took_nothing_is_parked_and_one_that_moves_is_not() -> None:
    watch = Watch()
    watch.identify()
    watch.pipe.waiting = 100
    watch.session.queued = 200  # 100 of them were taken since
    watch.run(1)
    assert not watch.session.paused and watch.catchup.sessions() == []
    watch.run(10)
    assert watch.session.paused and watch.catchup.sessions() == [watch.session]


def test_a_session_that_ended_is_visited_no_more() -> None:
    watch = Watch()
    watch.session.await_auth(watch.begin + 1)
    watch.session.lose()
    assert watch.run(10) == []


def test_planned_items_are_visited_until_they_return_none() -> None:
    class Item:
        def __init__(self) -> None:
            self.visits: list[float] = []

        def visit(self, now: float) -> float | None:
            self.visits.append(now)
            return now + 2 if len(self.visits) < 3 else None

    watch, item = Watch(), Item()
    watch.deadlines.plan(item, watch.begin + 3)
    watch.run(20)
    gaps = [at - watch.begin for at in item.visits]
    assert len(gaps) == 3 and 3 <= gaps[0] <= 3.5 and all(2 <= b - a <= 2.5 for a, b in pairwise(gaps))


@pytest.mark.parametrize(("code", "seconds"), [(4408, 5), (4610, 30), (4602, 60)])
def test_a_time_is_over_at_its_moment_and_not_a_tick_before(code: int, seconds: float) -> None:
    for early in (0.25, 0):
        watch = Watch()
        if code == 4408:
            watch.session.await_auth(watch.begin + seconds)
        else:
            watch.identify(watch.begin + seconds if code == 4610 else None)
        endings = watch.deadlines.tick(watch.begin + seconds - early)
        assert endings == ([] if early else [Ending(watch.session, code)])


@pytest.mark.parametrize(("written", "seconds"), [(b"token_expiring", 20), (b"\x89\x00", 30)])
def test_a_warning_and_a_heartbeat_are_written_at_their_moment_and_not_a_tick_before(
    written: bytes, seconds: float
) -> None:
    for early in (0.25, 0):
        watch = Watch(Limits(expiry_warning_s=10))
        watch.identify(watch.begin + 30 if seconds == 20 else None)
        watch.deadlines.tick(watch.begin + seconds - early)
        assert (written in watch.pipe.data) is not bool(early)


class Broken:
    """Something to visit that has a defect."""

    def visit(self, now: float) -> None:
        raise RuntimeError("planted")


def test_a_visit_that_fails_harms_no_other() -> None:
    watch, other = Watch(), Pipe(Scene())
    watch.identify()
    visited: list[float] = []

    class Sound:
        def visit(self, now: float) -> None:
            visited.append(now)

    for item in (Broken(), Sound()):
        watch.deadlines.plan(item, watch.begin + 1)
    broken = Session(other, WEBSOCKET, b"d", watch.begin)
    broken.identify(Identity(Caller("eve"), None), watch.scene.moment)
    other.broken, other.session = True, broken
    watch.deadlines.watch(broken)
    watch.run(31)
    assert visited and watch.pipe.data.endswith(b"\x89\x00"), "its heartbeat, behind the one that failed"
    faults, _ = watch.faults.take()
    assert {str(fault) for fault in faults} == {"planted", "the transport is gone"}
    endings = watch.run(70, alive=False)
    assert {ending.session for ending in endings} == {watch.session, broken}, "the deadlines of both go on"
