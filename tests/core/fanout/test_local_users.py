"""Who follows a topic here is announced to its owner: absolute, once a turn, in chunks, never older than a change."""

import pytest

from headgate.core.fanout import local_users
from headgate.core.wire.link_presence import AttachPresence, PresenceChanged, UserPresence
from tests.core.scene import Pipe, Scene


def scene_of(*topics: str, presence: str = "count") -> Scene:
    scene = Scene()
    for topic in topics:
        scene.owners.create(topic, settings={"presence": presence})
    return scene


def told(scene: Scene) -> list[UserPresence]:
    """What was announced since the last call."""
    messages = list(scene.owners.presence.told)
    scene.owners.presence.told.clear()
    return [user for message in messages for users in message.topics for user in users.users]


def lose(scene: Scene, *pipes: Pipe) -> None:
    for pipe in pipes:
        assert pipe.session is not None
        scene.hub.lost(pipe.session)


def counts(scene: Scene, topic: str = "a") -> dict[str, int]:
    found = scene.owners.presence.of(topic).get(topic)
    return {} if found is None else {user.user_id: user.connections for user in found.listed()}


def test_what_changes_in_one_turn_is_told_at_its_end_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_users, "FEW", 0)
    scene = scene_of("a")
    pipes = [scene.socket("a", user=f"u{n % 3}") for n in range(9)]
    assert told(scene) == []
    scene.turn()
    assert [(user.user_id, user.connections) for user in told(scene)] == [("u0", 3), ("u1", 3), ("u2", 3)]
    lose(scene, *pipes[:4])
    scene.turn()
    assert counts(scene) == {"u0": 1, "u1": 2, "u2": 2} and len(told(scene)) == 3
    scene.turn()
    assert told(scene) == []


def test_what_changes_in_a_small_topic_is_told_before_the_next_subscribe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_users, "FEW", 2)
    scene = scene_of("a", "b")
    scene.socket("a", user="ann")
    scene.socket("b", user="eve")
    assert told(scene) == []
    scene.socket("a", user="bob")
    assert [user.user_id for user in told(scene)] == ["ann", "eve"]
    scene.socket("a", user="cid")
    scene.socket("a", user="dan")
    assert [user.user_id for user in told(scene)] == ["bob"], "it has three users now: a crowd"
    scene.turn()
    assert [user.user_id for user in told(scene)] == ["cid", "dan"]


def test_a_user_who_is_there_and_connects_again_is_told_at_the_end_of_the_turn() -> None:
    scene = scene_of("a")
    one = scene.socket("a", user="ann")
    scene.turn()
    scene.say(one, type="status", state="away")
    scene.turn()
    told(scene)
    scene.socket("a", user="ann")
    scene.socket("a", user="bob")
    assert [(user.user_id, user.away) for user in told(scene)] == [("ann", False)], "she was away"
    scene.turn()
    told(scene)
    scene.socket("a", user="ann")
    scene.socket("a", user="ann")
    assert told(scene) == [], "nobody has come, gone or turned"
    scene.turn()
    assert [(user.user_id, user.connections) for user in told(scene)] == [("ann", 4)]


def test_who_comes_and_goes_in_one_turn_is_gone_also_where_he_was_the_only_one() -> None:
    scene = scene_of("a")
    lose(scene, scene.socket("a", user="ann"))
    scene.socket("a", user="bob")
    scene.turn()
    assert counts(scene) == {"bob": 1}
    first = scene.socket("a", user="ann")
    scene.turn()
    lose(scene, first)
    scene.socket("a", user="ann")
    scene.turn()
    assert counts(scene) == {"bob": 1, "ann": 1}


def test_a_topic_left_by_all_and_followed_again_in_one_turn_has_the_one_who_follows() -> None:
    scene = scene_of("a")
    pipe = scene.socket("a", user="ann")
    scene.turn()
    lose(scene, pipe)
    scene.socket("a", user="ann")
    scene.socket("a", user="bob")
    scene.turn()
    assert counts(scene) == {"ann": 1, "bob": 1}


def test_a_user_is_away_when_all_of_his_connections_are() -> None:
    scene = scene_of("a")
    one, two = scene.socket("a", user="ann"), scene.socket("a", user="ann")
    scene.turn()
    told(scene)
    for pipe in (one, two):
        scene.say(pipe, type="status", state="away")
        scene.turn()
        assert [user.away for user in told(scene)] == [pipe is two]
    scene.say(two, type="status", state="away")
    scene.turn()
    assert told(scene) == []
    lose(scene, one)
    scene.turn()
    assert [(user.connections, user.away) for user in told(scene)] == [(1, True)]
    scene.say(two, type="status", state="online")
    scene.turn()
    assert [(user.connections, user.away) for user in told(scene)] == [(1, False)]


def test_a_topic_without_presence_is_announced_to_nobody() -> None:
    scene = scene_of("a", presence="none")
    lose(scene, scene.socket("a"))
    scene.turn()
    assert scene.owners.presence.told == []


def test_a_new_owner_is_told_all_in_chunks_over_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_users, "CHUNK", 10)
    monkeypatch.setattr(local_users, "CHUNKS", 2)
    scene = scene_of("a")
    pipes = [scene.socket("a", user=f"u{n:03}") for n in range(100)]
    scene.turn()
    told(scene)
    scene.owners.go()
    scene.owners.presence.forget()
    scene.owners.come()
    shard = scene.owners.shard_of("a")
    scene.scheduled -= 1
    scene.hub.flush(scene.moment)
    assert len(counts(scene)) == 20
    lose(scene, pipes[0], pipes[50], pipes[99])
    scene.socket("a", user="new")
    scene.turn()
    messages = [m for m in scene.owners.presence.told if isinstance(m, AttachPresence) and m.shard == shard]
    assert [m.first for m in messages] == [True] + [False] * (len(messages) - 1)
    assert [m.last for m in messages] == [False] * (len(messages) - 1) + [True]
    assert all(sum(len(users.users) for users in m.topics) <= 10 for m in messages)
    assert counts(scene) == {f"u{n:03}": 1 for n in range(100) if n not in (0, 50, 99)} | {"new": 1}


def test_a_topic_whose_first_user_comes_with_the_new_owner_is_told_with_all_others() -> None:
    """His subscribe was held; it is granted before the first message of the attach is made."""
    scene = scene_of("a", "b")
    scene.socket("a", user="ann")
    scene.turn()
    scene.owners.go()
    scene.socket("b", user="bob")
    scene.turn()
    scene.owners.presence.forget()
    scene.owners.come()
    scene.turn()
    assert counts(scene) == {"ann": 1} and counts(scene, "b") == {"bob": 1}


def test_every_shard_gets_an_attach_and_an_empty_one_is_first_and_last() -> None:
    scene = scene_of("a")
    scene.socket("a")
    scene.owners.come()
    scene.turn()
    attached = [m for m in scene.owners.presence.told if isinstance(m, AttachPresence)]
    assert sorted(m.shard for m in attached) == [0, 1, 2, 3] and all(m.first and m.last for m in attached)


def test_changes_are_told_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_users, "CHUNK", 10)
    scene = scene_of("a", "b")
    for n in range(25):
        scene.socket("a", "b", user=f"u{n}")
    scene.turn()
    changes = [m for m in scene.owners.presence.told if isinstance(m, PresenceChanged)]
    assert len(changes) >= 5 and all(sum(len(users.users) for users in m.topics) <= 20 for m in changes)
    assert counts(scene) == counts(scene, "b") == {f"u{n}": 1 for n in range(25)}
