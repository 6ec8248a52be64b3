"""The ends of large topics: in slices, behind their sweeps, and once for each subscription."""

import pytest

from headgate.core.fanout import endings
from tests.core.fanout.sweeping import SweepScene
from tests.core.scene import Pipe


def ended(pipes: list[Pipe]) -> int:
    return sum(len(pipe.frames("unsubscribed")) for pipe in pipes)


def test_so_many_end_in_one_turn_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "SLICE", 3)
    scene = SweepScene()
    pipes = scene.crowd(8)
    scene.turn()
    scene.owners.delete("a")
    assert ended(pipes) == 0
    seen = []
    while scene.scheduled:
        scene.slice()
        seen.append(ended(pipes))
        if len(seen) == 1:
            gone = next(pipe for pipe in pipes if not pipe.frames("unsubscribed"))
            assert gone.session is not None
            scene.hub.lost(gone.session)
    assert seen[:3] == [3, 6, 7] and scene.hub.subscription_count == 0 and len(scene.hub._endings) == 0


def test_two_topics_that_end_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "SLICE", 2)
    scene = SweepScene()
    one, two = scene.crowd(5), scene.crowd(5, "b")
    scene.turn()
    scene.owners.delete("a")
    scene.owners.delete("b")
    scene.slice()
    scene.slice()
    assert ended(one) == ended(two) == 2
    scene.turn()
    assert ended(one) == ended(two) == 5


def test_who_is_parked_is_told_too() -> None:
    scene = SweepScene()
    pipes = scene.crowd(5)
    scene.turn()
    assert pipes[0].session is not None
    scene.hub.catchup.park(pipes[0].session, scene.now)
    scene.publish("a", 1)
    scene.owners.delete("a")
    scene.turn()
    assert ended(pipes) == 5 and pipes[0].seqs() == [] and pipes[1].seqs() == [1]
