"""Replayed dead letters at the gateway: to their subscription alone, acknowledged and retried by their own number."""

from headgate.core.delivery.replays import REPLAYS
from headgate.core.wire.link_dead_letters import Receiver, WantReplays
from headgate.core.wire.link_messages import Amended
from tests.core.fanout.acking import AckScene, got
from tests.core.scene import Pipe


def replay(scene: AckScene, seq: int = 1, letter_id: str = "letter") -> None:
    frame = scene.topic.frames[seq - scene.topic.first_seq]
    scene.cursors.redeliver("a", scene.topic.epoch, seq, "bob", letter_id, frame)


def begun(**settings: object) -> tuple[AckScene, Pipe]:
    """Returns a scene in which bob has acknowledged two messages."""
    scene = AckScene(retry=dict(settings))
    bob = scene.acker()
    scene.send(1, 2)
    scene.ack(bob, 2)
    got(bob)
    return scene, bob


def test_only_its_receiver_gets_it_with_its_old_seq_and_attempt_1() -> None:
    scene, bob = begun()
    ann, phone = scene.acker("ann"), scene.acker(device_id="phone")
    assert [want.receiver for want in scene.cursors.wanted] == [
        Receiver("bob", "default"),
        Receiver("ann", "default"),
        Receiver("bob", "phone"),
    ]
    replay(scene)
    frame = bob.frames("message")[-1]
    assert (frame["seq"], frame["attempt"], frame["payload"]) == (1, 1, 1)
    assert (got(ann), got(phone)) == ([], [])
    replay(scene)  # the owner sends it to whoever attaches
    assert got(bob) == [(1, 1)]


def test_an_ack_of_its_own_number_ends_it_and_moves_no_cursor() -> None:
    scene, bob = begun()
    scene.send(3)
    replay(scene)
    scene.ack(bob, 1, id=4)
    assert (scene.cursors.done, bob.frames("ok")) == (["letter"], [{"type": "ok", "id": 4}])
    scene.pass_time(1.25)
    assert (scene.cursors.seq("bob", "a"), got(bob)) == (2, [(3, 1), (1, 1), (3, 2)])
    replay(scene)  # the owner has not read it yet
    assert (scene.cursors.done, got(bob)) == (["letter", "letter"], [])


def test_a_higher_ack_does_not_count_for_it() -> None:
    scene, bob = begun()
    replay(scene)
    scene.send(3)
    scene.ack(bob, 3)
    assert scene.cursors.done == []
    scene.pass_time(1.5)
    assert got(bob) == [(1, 1), (3, 1), (1, 2)]


def test_a_refused_one_is_read_again_as_it_is_then() -> None:
    scene, bob = begun()
    replay(scene)
    scene.nack(bob, 1, reason="busy")
    scene.topic.frames[0] = scene.topic.frames[0].replace(b'"payload":1', b'"payload":"new"')
    scene.owners.push(Amended("a", scene.topic.epoch, 1, scene.topic.frames[0]))
    scene.pass_time(1.25)
    frame = bob.frames("message")[-1]
    assert (frame["seq"], frame["attempt"], frame["payload"]) == (1, 2, "new")


def test_one_that_fails_again_is_a_dead_letter_again() -> None:
    scene, bob = begun(max_attempts=1)
    replay(scene)
    scene.nack(bob, 1, reason="no")
    assert [(letter.seq, letter.attempts, letter.last_error) for letter in scene.cursors.letters] == [(1, 1, "no")]
    got(bob)
    replay(scene)
    assert got(bob) == [(1, 1)]


def test_one_whose_message_is_kept_no_longer_is_a_dead_letter_again() -> None:
    scene, bob = begun()
    replay(scene)
    scene.nack(bob, 1)
    scene.owners.forget("a", 2)
    scene.pass_time(1.5)
    assert [(letter.seq, letter.reason) for letter in scene.cursors.letters] == [(1, "retention")]
    assert got(bob) == [(1, 1)]


def test_a_socket_that_is_full_gets_it_later() -> None:
    scene, bob = begun()
    bob.stuck = True
    bob.waiting = 1 << 20
    assert bob.session is not None
    scene.hub.catchup.park(bob.session, scene.now)
    bob.paused = True
    replay(scene)
    assert got(bob) == []
    bob.stuck = False
    bob.drain()
    scene.pass_time(1.25)
    assert got(bob) == [(1, 1)]


def test_more_than_the_bound_are_asked_for_again() -> None:
    scene = AckScene()
    bob = scene.acker()
    count = REPLAYS + 4
    scene.send(*range(count))
    scene.ack(bob, count)
    got(bob)
    wanted = len(scene.cursors.wanted)
    for seq in range(1, count + 1):
        replay(scene, seq, f"letter {seq}")
    assert got(bob) == [(seq, 1) for seq in range(1, REPLAYS + 1)]
    for seq in range(1, REPLAYS // 2 + 1):
        scene.ack(bob, seq)
    assert len(scene.cursors.wanted) == wanted + 1
    for seq in range(REPLAYS + 1, count + 1):
        replay(scene, seq, f"letter {seq}")
    assert got(bob) == [(seq, 1) for seq in range(REPLAYS + 1, count + 1)]


def test_who_acknowledged_them_faster_than_they_came_asks_once_more_when_none_is_left() -> None:
    """The owner sends a bounded number: nobody was turned away, and there may be others all the same."""
    scene, bob = begun()
    wanted = len(scene.cursors.wanted)
    for seq in (1, 2):
        replay(scene, seq, f"letter {seq}")
        scene.ack(bob, seq)
    assert len(scene.cursors.wanted) == wanted
    scene.pass_time(3.0)
    assert scene.cursors.wanted[wanted:] == [WantReplays("a", scene.topic.epoch, Receiver("bob", "default"))]
    replay(scene, 1, "another")
    assert got(bob)[-1] == (1, 1)
    scene.hub.lost(bob.session)  # type: ignore[arg-type]
    scene.pass_time(3.0)
    assert len(scene.cursors.wanted) == wanted + 1
