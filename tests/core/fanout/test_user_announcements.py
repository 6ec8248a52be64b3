"""Which users are here is told to their owners: in batches, in chunks to a new owner, and never twice in one turn."""

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout import user_announcements
from headgate.core.wire.link_users import AttachUsers, UsersChanged
from tests.core.scene import Scene


def changes(scene: Scene) -> list[UsersChanged]:
    return [message for message in scene.owners.announced if isinstance(message, UsersChanged)]


def test_what_changes_in_one_turn_is_told_once_a_shard() -> None:
    scene = Scene()
    pipes = [scene.socket(user=f"u{n % 40}") for n in range(100)]
    assert scene.scheduled == 1 and scene.owners.announced == []
    scene.turn()
    assert len(changes(scene)) == 4 and {message.shard for message in changes(scene)} == {0, 1, 2, 3}
    assert scene.owners.users == {f"u{n}": 3 if n < 20 else 2 for n in range(40)}
    for message in changes(scene):
        assert all(scene.owners.shard_of(route.user_id) == message.shard for route in message.users)
    for pipe in pipes[40:]:
        assert pipe.session is not None
        scene.hub.lost(pipe.session)
    scene.turn()
    assert scene.owners.users == {f"u{n}": 1 for n in range(40)} and len(changes(scene)) == 8
    scene.turn()
    assert len(changes(scene)) == 8, "nothing has changed"


def test_who_was_not_admitted_is_told_to_nobody() -> None:
    scene = Scene()
    pipe = scene.open()
    assert pipe.session is not None
    scene.hub.lost(pipe.session)
    assert scene.scheduled == 0


def test_who_comes_and_goes_in_one_turn_is_gone() -> None:
    scene = Scene()
    pipe = scene.socket(user="ann")
    assert pipe.session is not None
    scene.hub.lost(pipe.session)
    scene.turn()
    assert scene.owners.users == {}


def test_a_new_owner_is_told_all_users_of_its_shard_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_announcements, "CHUNK", 3)
    scene = Scene()
    scene.owners.up = False
    for n in range(41):
        scene.socket(user=f"u{n % 40}")
    scene.turn()
    assert scene.owners.announced == []
    scene.owners.come()
    for shard in range(4):
        chunks = [m for m in scene.owners.announced if isinstance(m, AttachUsers) and m.shard == shard]
        assert [chunk.first for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
        assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert all(0 < len(chunk.users) <= 3 for chunk in chunks)
    assert scene.owners.users == {f"u{n}": 2 if n == 0 else 1 for n in range(40)}


def test_a_gateway_without_users_says_so() -> None:
    scene = Scene()
    scene.hub.on_owner(2, True)
    assert scene.owners.announced == [AttachUsers(2, True, True, [])]


@pytest.mark.parametrize(("elsewhere", "ended"), [(16, 0), (17, 1), (30, 4)])
def test_the_limit_of_connections_counts_those_on_other_gateways(elsewhere: int, ended: int) -> None:
    scene = Scene(Limits(connections_per_user=20))
    scene.owners.elsewhere["ann"] = elsewhere
    pipes = [scene.open() for _ in range(4)]
    for pipe in pipes:
        assert scene.admit(pipe, scene.caller("ann"))
    scene.turn()
    assert [pipe.code for pipe in pipes] == [None] * (4 - ended) + [4529] * ended
    for pipe in pipes[4 - ended :]:
        frame = pipe.frames()[-1]
        assert (frame["type"], frame["code"], frame["retry_after_ms"]) == ("disconnect", 4529, 5_000)
    scene.turn()
    assert scene.owners.users.get("ann", 0) == 4 - ended and scene.numbers.refusals == ["limit_reached"] * ended


def test_two_answers_about_one_excess_end_it_once() -> None:
    scene = Scene(Limits(connections_per_user=3))
    scene.owners.elsewhere["ann"] = 2
    scene.owners.slow = True
    pipes = []
    for _ in range(3):
        pipes.append(scene.open())
        scene.admit(pipes[-1], scene.caller("ann"))
        scene.turn()
    scene.owners.deliver()
    scene.turn()
    assert [pipe.code for pipe in pipes] == [None, 4529, 4529]


def test_a_service_has_no_limit() -> None:
    scene = Scene(Limits(connections_per_user=1))
    scene.owners.elsewhere["bob"] = 50
    pipe = scene.socket()
    scene.turn()
    assert pipe.code is None
