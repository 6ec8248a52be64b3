"""Frames beside the messages: in slices, in order, and never to a socket that is full."""

import pytest

from headgate.core.client import outbound
from headgate.core.fanout import side_frames
from headgate.core.fanout.session import Subscription
from headgate.core.fanout.side_frames import QUEUED, SLICE, SideFrames
from tests.core.scene import Pipe, Scene

ONE, TWO = outbound.typing("a", "ann"), outbound.typing("a", "bob")


class Bed:
    def __init__(self, count: int) -> None:
        self.scene = Scene()
        self.scene.owners.create("a")
        self.pipes = [self.scene.socket("a") for _ in range(count)]
        self.asked = 0
        self.missed: list[Subscription] = []
        self.side = SideFrames(self._ask)

    def _ask(self) -> None:
        self.asked += 1

    def of(self, pipe: Pipe) -> Subscription:
        assert pipe.session is not None
        return pipe.session.subscriptions["a"]

    @property
    def all(self) -> list[Subscription]:
        return [self.of(pipe) for pipe in self.pipes]

    def got(self) -> list[list[str]]:
        return [[frame["user_id"] for frame in pipe.frames("typing")] for pipe in self.pipes]


def test_very_many_are_written_to_in_slices_and_each_gets_frames_in_order() -> None:
    bed = Bed(SLICE + 10)
    assert bed.side.add(ONE, bed.all, bed.missed.append) and bed.side.add(TWO, bed.all, bed.missed.append)
    assert bed.asked == 1
    bed.side.write()
    assert bed.got() == [["ann"]] * SLICE + [[]] * 10 and bed.asked == 2
    bed.side.write()
    bed.side.write()
    assert bed.got() == [["ann", "bob"]] * len(bed.pipes) and bed.asked == 3 and bed.missed == []
    bed.side.write()
    assert bed.asked == 3


def test_a_full_socket_misses_the_frame_and_an_ended_subscription_gets_none() -> None:
    bed = Bed(3)
    full, gone, _ = bed.pipes
    assert full.session is not None and gone.session is not None
    full.session.pause(1.0)
    subscriptions = bed.all
    bed.side.add(ONE, subscriptions, bed.missed.append)
    bed.scene.hub.lost(gone.session)
    bed.side.write()
    assert bed.got() == [[], [], ["ann"]] and bed.missed == subscriptions[:1]


def test_a_broken_transport_harms_no_other() -> None:
    bed = Bed(2)
    bed.pipes[0].broken = True
    bed.side.add(ONE, bed.all, bed.missed.append)
    bed.side.write()
    assert bed.got()[1] == ["ann"] and bed.side.failures == 1


def test_above_the_bound_a_frame_is_not_taken() -> None:
    bed = Bed(1)
    assert all(bed.side.add(ONE, bed.all, bed.missed.append) for _ in range(QUEUED))
    assert not bed.side.add(TWO, bed.all, bed.missed.append)
    assert bed.side.add(TWO, [], bed.missed.append) is False
    bed.side.write()
    assert bed.side.add(TWO, [], bed.missed.append) and bed.got() == [["ann"] * SLICE]


def test_the_writes_that_wait_are_bounded_and_one_frame_is_always_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_frames, "WRITES", 10)
    bed = Bed(6)
    assert bed.side.add(ONE, bed.all * 2, bed.missed.append)
    assert not bed.side.add(TWO, bed.all, bed.missed.append)
    bed.side.write()
    assert bed.side.add(ONE, bed.all, bed.missed.append) and bed.side.add(TWO, bed.all[:4], bed.missed.append)
    assert not bed.side.add(TWO, bed.all[:1], bed.missed.append)
    bed.side.write()
    assert bed.side.add(TWO, bed.all, bed.missed.append) and bed.got()[0] == ["ann", "ann", "ann", "bob"]


def test_the_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(1)
    monkeypatch.setattr(side_frames, "BYTES", 2 * len(ONE.data) + 4)
    for _ in range(2):
        assert bed.side.add(ONE, bed.all, bed.missed.append) and bed.side.add(ONE, bed.all, bed.missed.append)
        assert not bed.side.add(ONE, bed.all, bed.missed.append)
        bed.side.write()
    assert len(bed.got()[0]) == 4
