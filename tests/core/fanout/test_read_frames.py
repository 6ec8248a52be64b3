"""`read` frames: the user's other sessions with `unread`, publishers without, and nobody else."""

import pytest

from headgate.core.fanout import read_frames
from headgate.core.wire.link_inbox import ReadReceipt, UserRead
from headgate.core.wire.rights import Caller
from tests.core.fanout.test_read_reports import ReadScene
from tests.core.scene import Pipe


def read_frames_of(pipe: Pipe) -> list[dict[str, object]]:
    return [{name: frame[name] for name in frame if name != "type"} for frame in pipe.frames("read")]


def test_the_readers_other_sessions_are_told_wherever_they_are() -> None:
    scene = ReadScene()
    phone, desk, elsewhere, eve = scene.socket("a"), scene.socket("a"), scene.socket(), scene.socket("a", user="eve")
    stream = scene.stream("a")
    scene.read(phone, 4, id=1)
    scene.owners.push(UserRead("bob", "a", 4, 5))
    told = [{"topic_id": "a", "user_id": "bob", "seq": 4, "unread": 5}]
    assert [read_frames_of(pipe) for pipe in (phone, desk, elsewhere, eve)] == [[], told, told, []]
    assert b'"read"' not in stream.data


def test_a_session_whose_token_is_for_other_topics_only_is_not_told() -> None:
    scene = ReadScene()
    pipes = [scene.open(), scene.open()]
    for pipe, topic_id in zip(pipes, "ab", strict=True):
        scene.admit(pipe, Caller("bob", subscribe=(topic_id,), only=True))
    scene.owners.push(UserRead("bob", "a", 4, 5))
    assert [len(pipe.frames("read")) for pipe in pipes] == [1, 0]


def test_a_session_that_has_read_less_is_told_too() -> None:
    scene = ReadScene()
    phone, desk = scene.socket("a"), scene.socket("a")
    scene.read(phone, 3)
    scene.read(desk, 6)
    scene.owners.push(UserRead("bob", "a", 6, 3))
    assert (len(phone.frames("read")), len(desk.frames("read"))) == (1, 0)
    scene.read(phone, 2**53 - 1, id=1)  # it is the head: what comes later, this session has not read
    scene.publish("a", "new")
    scene.owners.push(UserRead("bob", "a", 10, 0))
    assert (len(phone.frames("read")), len(desk.frames("read"))) == (2, 1)


def test_publishers_who_follow_the_topic_get_a_receipt_and_never_the_reader() -> None:
    scene = ReadScene()
    scene.owners.create("b")
    bob, eve, cat = (scene.socket("a", user=user) for user in ("bob", "eve", "cat"))
    away, stream = scene.socket("b", user="eve"), scene.stream("a")
    epoch = scene.owners.topics["a"].epoch
    for receipt in (
        ReadReceipt("a", epoch, "bob", 4, ["eve", "bob", "nobody"]),
        ReadReceipt("a", epoch - 1, "bob", 5, ["eve"]),
        ReadReceipt("none", epoch, "bob", 6, ["eve"]),
    ):
        scene.owners.push(receipt)
    scene.turn()
    told = [{"topic_id": "a", "user_id": "bob", "seq": 4}]
    assert [read_frames_of(pipe) for pipe in (bob, eve, cat, away)] == [[], told, [], []]
    assert b'"read"' not in stream.data


def test_a_full_socket_and_one_that_is_gone_are_not_written_to() -> None:
    scene = ReadScene()
    eve, gone = scene.socket("a", user="eve"), scene.socket("a", user="eve")
    assert eve.session is not None
    scene.lose(gone)
    eve.session.pause(scene.now)
    epoch = scene.owners.topics["a"].epoch
    before = len(eve.data), len(gone.data)
    scene.owners.push(UserRead("eve", "a", 4, 0))
    scene.owners.push(ReadReceipt("a", epoch, "bob", 4, ["eve"]))
    scene.turn()
    assert (len(eve.data), len(gone.data)) == before


def test_a_users_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_frames, "SESSIONS", 2)
    scene = ReadScene()
    pipes = [scene.socket("a", user="eve") for _ in range(4)]
    scene.owners.push(UserRead("eve", "a", 4, 0))
    scene.owners.push(ReadReceipt("a", scene.owners.topics["a"].epoch, "bob", 4, ["eve"]))
    scene.turn()
    assert [len(pipe.frames("read")) for pipe in pipes] == [2, 2, 0, 0]
