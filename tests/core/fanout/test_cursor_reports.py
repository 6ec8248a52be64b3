"""Cursors on their way to the owners: once a second, in batches, at once where somebody waits, again when refused."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headgate.core.fanout import cursor_reports
from headgate.core.fanout.cursor_reports import MAX_ENDED, CursorReports
from headgate.core.fanout.ports import Upstream
from headgate.core.wire.link_acks import MAX_CURSORS
from tests.core.fanout.acking import AckScene


def test_a_cursor_is_sent_at_most_once_a_second_and_only_when_it_moved() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(*range(100))
    scene.pass_time(1.0)
    moves = len(scene.cursors.moves)
    for seq in range(1, 41):
        scene.ack(bob, seq)
        scene.pass_time(0.05, step=0.05)
    assert moves + 1 <= len(scene.cursors.moves) <= moves + 3
    scene.ack(bob, 100)
    scene.pass_time(1.25)
    moves = len(scene.cursors.moves)
    scene.pass_time(5.0)
    assert len(scene.cursors.moves) == moves


def test_many_cursors_make_few_messages() -> None:
    scene = AckScene()
    users = [f"u{n}" for n in range(MAX_CURSORS * 2)]
    for user in users:
        scene.acker(user)
    scene.turn()
    assert all(scene.cursors.seq(user, "a") == 0 for user in users)
    assert len(scene.cursors.moves) <= 4  # of four shards
    assert all(len(move.cursors) <= MAX_CURSORS for move in scene.cursors.moves)
    assert all(
        scene.owners.shard_of_user(c.user_id) == move.shard for move in scene.cursors.moves for c in move.cursors
    )


def test_who_subscribes_again_in_the_same_turn_finds_the_cursor() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1, 2)
    scene.ack(bob, 1)
    scene.say(bob, type="unsubscribe", topic_id="a")
    scene.say(bob, type="subscribe", topic_id="a", ack=True, **{"from": "cursor"})
    assert [frame["seq"] for frame in bob.frames("message")] == [1, 2, 2]
    scene.turn()
    assert len(scene.cursors.leases) == 1


def test_a_refused_one_stays_and_is_sent_again_as_it_is_then() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1, 2, 3)
    scene.cursors.away = True
    scene.ack(bob, 1)
    scene.pass_time(2.0)
    scene.ack(bob, 3)
    scene.cursors.away = False
    moves = len(scene.cursors.moves)
    scene.pass_time(1.25)
    assert (scene.cursors.seq("bob", "a"), len(scene.cursors.moves)) == (3, moves + 1)


def test_frames_that_wait_are_bounded() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1)
    scene.turn()
    scene.owners.go()
    scene.ack(bob, 1)
    for n in range(cursor_reports.MAX_WAITING + 1):
        scene.now += 0.2
        assert bob.session is not None
        bob.session.hear(scene.now)
        scene.ack(bob, 1, id=n)
    errors = bob.frames("error")
    assert [(error["id"], error["code"]) for error in errors] == [(cursor_reports.MAX_WAITING, "not_ready")]
    scene.owners.come()
    scene.pass_time(1.25)
    assert len(bob.frames("ok")) == cursor_reports.MAX_WAITING


def test_ended_subscriptions_that_wait_for_an_owner_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = AckScene()
    pipes = [scene.acker(f"u{n}") for n in range(4)]
    scene.send(1)
    scene.cursors.away = True
    for pipe in pipes:
        scene.ack(pipe, 1)
        assert pipe.session is not None
        scene.hub.lost(pipe.session)
    scene.turn()
    monkeypatch.setattr(cursor_reports, "MAX_ENDED", 2)
    scene.pass_time(1.25)
    scene.cursors.away = False
    scene.pass_time(1.25)
    assert [scene.cursors.seq(f"u{n}", "a") for n in range(4)] == [0, 0, 1, 1]


def test_that_many_end_at_once_while_their_owner_is_away_costs_a_step_each() -> None:
    """All clients of a gateway may leave in the same second: its loop stands still for as long as this takes."""
    upstream = cast("Upstream", SimpleNamespace(linked=lambda shard: False))
    reports = CursorReports(upstream, lambda: None)
    for n in range(MAX_ENDED * 15):
        lease = SimpleNamespace(connection_id="")
        acks = SimpleNamespace(shard=0, key=("u", str(n), "a"), lease=lease, version=1, stored=0)
        reports.ended(cast("Any", _Hashable(acks)))
    began = time.process_time()
    reports.look()
    assert time.process_time() - began < 1.0  # 0.1 s; where each step looks at all before it, 8 s
    assert reports.is_pending


class _Hashable:
    """What an ended subscription is for the reports."""

    def __init__(self, fields: SimpleNamespace) -> None:
        self.__dict__.update(vars(fields))
