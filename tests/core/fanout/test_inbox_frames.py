"""`inbox` frames: only topics that a session does not follow, one a second, the newest values."""

import pytest

from headgate.core.client.framing import WEBSOCKET
from headgate.core.fanout import inbox_frames
from headgate.core.wire.link_inbox import HINT_TOPICS, HintTopic, UserHint, UserHints
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Pipe, Scene


def scene_of() -> Scene:
    scene = Scene()
    scene.owners.create("a")
    return scene


def hint(scene: Scene, *topics: tuple[str, int, int], user: str = "bob") -> None:
    scene.owners.push(UserHints([UserHint(user, [HintTopic(*topic) for topic in topics])]))
    scene.turn()


def told(pipe: Pipe) -> list[list[tuple[str, int, int]]]:
    return [
        [(topic["topic_id"], topic["head_seq"], topic["unread"]) for topic in frame["topics"]]
        for frame in pipe.frames("inbox")
    ]


def test_a_session_is_told_of_the_topics_that_it_does_not_follow() -> None:
    scene = scene_of()
    phone, desk, eve = scene.socket("a"), scene.socket(), scene.socket(user="eve")
    stream = scene.stream("a")
    hint(scene, ("a", 7, 2), ("b", 9, 1))
    assert (told(phone), told(desk), told(eve)) == ([[("b", 9, 1)]], [[("a", 7, 2), ("b", 9, 1)]], [])
    assert b"inbox" not in stream.data


def test_who_gave_no_name_is_told_nothing_because_everybody_shares_that_name() -> None:
    scene = scene_of()
    nobody, bob = scene.socket(user="anonymous"), scene.socket()
    hint(scene, ("b", 1, 1), user="anonymous")
    hint(scene, ("b", 1, 1))
    scene.pass_time(2.0)
    assert (told(nobody), told(bob)) == ([], [[("b", 1, 1)]]) and not scene.hub.audience._inbox._new


def test_a_token_for_some_topics_only_is_told_of_no_others() -> None:
    scene = scene_of()
    pipe, other = scene.open(), scene.socket()
    scene.admit(pipe, Caller("bob", publish=("p",), subscribe=("b*",), only=True))
    hint(scene, ("a", 1, 1), ("b1", 2, 1), ("p", 3, 1))
    hint(scene, ("c", 4, 1))
    scene.pass_time(2.0)
    assert told(pipe) == [[("b1", 2, 1), ("p", 3, 1)]]
    assert len(told(other)) == 2


def test_a_ticket_for_some_topics_is_told_of_no_others() -> None:
    scene = scene_of()
    pipe = scene.open()
    assert pipe.session is not None
    scene.hub.admit(pipe.session, Identity(Caller("bob"), topics=frozenset(["a", "b"])), scene.moment)
    hint(scene, ("a", 1, 1), ("c", 2, 1))
    assert told(pipe) == [[("a", 1, 1)]]


def test_more_within_a_second_is_merged_and_told_when_it_is_over() -> None:
    scene = scene_of()
    bob = scene.socket()
    hint(scene, ("a", 1, 1))
    for n in range(2, 5):
        hint(scene, ("a", n, n), ("b", n, 1))
    scene.pass_time(0.75)
    assert told(bob) == [[("a", 1, 1)]]
    scene.pass_time(0.5)
    assert told(bob) == [[("a", 1, 1)], [("a", 4, 4), ("b", 4, 1)]]
    scene.pass_time(0.5)
    hint(scene, ("a", 5, 5))
    assert len(told(bob)) == 2
    scene.pass_time(5.0)
    assert told(bob)[2:] == [[("a", 5, 5)]]
    assert not scene.hub.audience._inbox._told


def test_what_the_session_follows_by_then_is_left_out() -> None:
    scene = scene_of()
    bob = scene.socket()
    hint(scene, ("b", 1, 1))
    hint(scene, ("a", 2, 2))
    scene.follow(bob, "a")
    scene.pass_time(2.0)
    assert told(bob) == [[("b", 1, 1)]]
    hint(scene, ("a", 3, 3))
    hint(scene, ("b", 2, 2))
    assert told(bob)[1:] == [[("b", 2, 2)]], "a frame that was not sent costs no second"


def test_a_session_that_is_full_closed_or_not_welcomed_misses_it() -> None:
    scene = scene_of()
    full, gone, unknown = scene.socket(), scene.socket(), scene.open(WEBSOCKET)
    assert full.session is not None and gone.session is not None
    full.session.pause(scene.now)
    scene.hub.lost(gone.session)
    hint(scene, ("a", 1, 1))
    assert [told(pipe) for pipe in (full, gone, unknown)] == [[], [], []] and unknown.data == b""
    scene.hub.resume(full.session, scene.moment)
    hint(scene, ("a", 2, 2))
    assert told(full) == [[("a", 2, 2)]]
    hint(scene, ("a", 3, 3))
    full.session.pause(scene.now)
    scene.pass_time(2.0)
    assert len(told(full)) == 1
    scene.hub.resume(full.session, scene.moment)
    scene.pass_time(2.0)
    assert len(told(full)) == 1 and not scene.hub.audience._inbox._new


def test_a_session_that_ends_is_forgotten() -> None:
    scene = scene_of()
    bob = scene.socket()
    hint(scene, ("a", 1, 1))
    hint(scene, ("a", 2, 2))
    assert bob.session is not None
    scene.hub.lost(bob.session)
    inbox = scene.hub.audience._inbox
    assert not inbox._new and not inbox._told and not inbox._due


def test_topics_of_one_frame_are_bounded_and_the_newest_stay() -> None:
    scene = scene_of()
    bob = scene.socket()
    hint(scene, *((f"t{n}", n, 1) for n in range(HINT_TOPICS + 5)))
    assert [topic for topic, _, _ in told(bob)[0]] == [f"t{n}" for n in range(5, HINT_TOPICS + 5)]


def test_many_sessions_are_told_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_frames, "SLICE", 3)
    scene = scene_of()
    pipes = [scene.socket(user=f"u{n}") for n in range(8)]
    scene.turn()
    scene.owners.push(UserHints([UserHint(f"u{n}", [HintTopic("a", 1, 1)]) for n in range(8)]))
    done = []
    while scene.scheduled:
        scene.scheduled -= 1
        scene.hub.flush(scene.moment)
        done.append(sum(len(told(pipe)) for pipe in pipes))
    assert done == [3, 6, 8]
