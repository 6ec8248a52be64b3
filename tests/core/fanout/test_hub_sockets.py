"""Sockets that take nothing or break, and sessions with a defect: they are closed in time and harm no other."""

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import Due
from headgate.core.fanout.session import Session
from tests.core.scene import Scene

BIG = "x" * 1_000


@pytest.mark.parametrize("on_slow", ["drop_oldest", "disconnect"])
@pytest.mark.parametrize(("sse", "code"), [(False, 4508), (True, 4602)])
def test_a_socket_that_takes_no_byte_for_a_minute_is_closed_whatever_the_policy(
    on_slow: str, sse: bool, code: int
) -> None:
    scene = Scene()
    scene.owners.create("a", settings={"on_slow": on_slow})
    open_one = scene.stream if sse else scene.socket
    dead, slow, parked = open_one("a"), open_one("a"), open_one("a")
    dead.stuck = slow.stuck = parked.stuck = True
    for _ in range(100):
        scene.publish("a", BIG)
        scene.turn()

    def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            scene.pass_time(1)
            slow.take(1)
            for pipe in (dead, slow, parked):
                if pipe.session is not None:
                    pipe.session.hear(scene.now)  # pongs: a client that does not read may still be there

    pass_time(58)
    assert dead.code is None and parked.code is None, "a session out of step is parked at its cursor"
    parked.stuck = False
    parked.drain()
    assert parked.data.count(b'"type":"message"') == 100
    pass_time(8)
    assert dead.code == code and slow.code is None and parked.code is None


def test_a_socket_that_stops_below_the_high_water_mark_is_found_too() -> None:
    scene = Scene()
    scene.owners.create("a")
    dead = scene.socket("a")
    dead.stuck = True
    for _ in range(70):
        scene.publish("a", "little")
        scene.turn()
        assert dead.session is not None
        dead.session.hear(scene.now)
        scene.pass_time(1)
    assert dead.code == 4508


def test_a_socket_that_breaks_harms_no_other() -> None:
    scene = Scene()
    scene.owners.create("a")
    first, broken, last = (scene.socket("a") for _ in range(3))
    broken.broken = True
    scene.publish("a", 1)
    scene.turn()
    assert first.seqs() == last.seqs() == [1]


def test_a_session_that_cannot_be_ended_or_looked_at_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.owners.create("a")
    first, last = scene.socket("a"), scene.socket("a")
    for pipe in (first, last):
        pipe.stuck = True
    scene.publish("a", *[BIG] * 100)
    scene.turn()
    due, looked = scene.hub.catchup.due, []

    def planted(session: Session, now: float) -> Due:
        looked.append(session)
        if session is first.session:
            raise RuntimeError("planted")
        return due(session, now)

    monkeypatch.setattr(scene.hub.catchup, "due", planted)
    scene.now += 2
    scene.hub.tick(scene.moment)
    assert {first.session, last.session} == set(looked)
    monkeypatch.setattr(first, "end", lambda code, reason: 1 / 0)
    scene.now += 70
    scene.hub.tick(scene.moment)
    assert last.code == 4602, "first could not be ended"
    faults, _ = scene.hub.faults.take()
    assert [type(fault) for fault in faults] == [RuntimeError, ZeroDivisionError]


def test_a_pump_that_fails_in_a_flush_stops_no_later_flush() -> None:
    scene = Scene(Limits(queue_bytes=160_000))
    for topic in "abc":
        scene.owners.create(topic)
    broken, other = scene.socket("a", "b"), scene.socket("c")
    broken.broken = True
    for topic in "abc":
        scene.publish(topic, *["x" * 10_000] * 4)
    with pytest.raises(RuntimeError):  # its join is too large for one write: it is pumped topic by topic
        scene.turn()
    scene.turn()
    scene.publish("c", 5)
    scene.turn()
    assert other.seqs() == list(range(1, 6))


def test_a_full_socket_is_not_written_to_before_its_transport_says_so() -> None:
    """uvloop's says so once all is gone. Until then it takes what it is given, and calls nobody."""
    scene = Scene(Limits(queue_frames=20))
    scene.owners.create("a")
    socket = scene.socket()
    socket.stuck = True
    scene.publish("a", *[BIG * 20] * 200)
    scene.follow(socket, "a", "earliest")
    for left in (9_000, 8_000, 7_000):  # below the low-water mark, and fewer each second
        socket.waiting = left
        scene.pass_time(1)
    assert socket.highest <= scene.hub.limits.queue_bytes, "R1"
    socket.stuck = False
    socket.drain()
    assert socket.seqs() == list(range(1, 201))
