"""`typing`: to the other users, at most once a second, and answered only where it has an id or fails."""

from headgate.core.wire.link_presence import Typed, Typing
from tests.core.scene import Pipe, Scene


def scene_of(permissions: str = "PUBLIC") -> Scene:
    scene = Scene()
    scene.owners.create("a", permissions=permissions)
    return scene


def asked(scene: Scene) -> int:
    return sum(isinstance(message, Typing) for message in scene.owners.asked)


def typed(pipe: Pipe) -> list[str]:
    return [frame["user_id"] for frame in pipe.frames("typing")]


def test_the_others_are_told_and_no_connection_of_the_same_user_nor_a_stream() -> None:
    scene = scene_of()
    ann, phone, bob = (scene.socket("a", user=user) for user in ("ann", "ann", "bob"))
    stream, elsewhere = scene.stream("a"), scene.socket(user="eve")
    scene.say(ann, type="typing", topic_id="a")
    scene.turn()
    assert [typed(pipe) for pipe in (ann, phone, bob, elsewhere)] == [[], [], ["ann"], []]
    assert b"typing" not in stream.data
    assert bob.frames("typing") == [{"type": "typing", "topic_id": "a", "user_id": "ann"}]
    assert ann.frames("ok") == []


def test_more_than_one_a_second_is_merged_and_answered_like_the_first() -> None:
    scene = scene_of()
    ann, bob = scene.socket("a", user="ann"), scene.socket("a", user="bob")
    for at in range(4):
        scene.say(ann, type="typing", topic_id="a", id=at)
        scene.now += 0.3
    scene.turn()
    assert typed(bob) == ["ann"] and asked(scene) == 1
    assert [frame["id"] for frame in ann.frames("ok")] == [0, 1, 2, 3]
    scene.say(ann, type="typing", topic_id="a")
    scene.say(bob, type="typing", topic_id="a")
    scene.turn()
    assert typed(bob) == ["ann", "ann"] and typed(ann) == ["bob"]


def test_who_may_not_publish_may_not_type() -> None:
    scene = scene_of("SUBSCRIBE_ONLY")
    bob = scene.socket("a", user="bob")
    scene.say(bob, type="typing", topic_id="a")
    (error,) = bob.frames("error")
    assert (error["code"], error["topic_id"]) == ("forbidden", "a")


def test_a_topic_that_is_not_followed_is_not_found() -> None:
    scene = scene_of()
    bob = scene.socket(user="bob")
    scene.say(bob, type="typing", topic_id="a", id="x")
    (error,) = bob.frames("error")
    assert (error["code"], error["id"]) == ("not_found", "x") and asked(scene) == 0


def test_what_concerns_another_epoch_or_nobody_here_is_dropped() -> None:
    scene = scene_of()
    bob = scene.socket("a", user="bob")
    epoch = scene.owners.topics["a"].epoch
    for message in (Typed("a", epoch - 1, "ann"), Typed("b", epoch, "ann")):
        scene.owners.push(message)
    scene.turn()
    assert typed(bob) == []
