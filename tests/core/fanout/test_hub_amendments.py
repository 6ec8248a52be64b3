"""A message that was changed, in what a gateway holds of it: not written yet, in the ring, in a repaired gap."""

from headgate.core.wire.frames import message_frame
from headgate.core.wire.link_messages import Amended
from tests.core.scene import Scene

BIG = "x" * 1_000


def amended(scene: Scene, seq: int, payload: bytes, *, redacted: bool = False, epoch: int = 0) -> Amended:
    tail = b'"message_id":"m","publisher_id":"p","payload":%b}' % payload
    feed = scene.hub.feeds["a"]
    return Amended("a", epoch or feed.epoch, seq, message_frame("a", seq, 1, tail), redacted)


def test_a_message_that_was_not_written_yet_goes_out_as_it_is_now() -> None:
    scene = Scene()
    scene.owners.create("a")
    socket = scene.socket("a")
    scene.publish("a", "old")
    scene.hub.on_push(1, amended(scene, 1, b'"new"'))
    scene.hub.on_push(1, amended(scene, 1, b'"other"', epoch=3))
    scene.turn()
    assert [frame["payload"] for frame in socket.frames("message")] == ["new"]


def test_who_catches_up_from_the_ring_gets_a_message_as_it_is_now() -> None:
    scene = Scene()
    scene.owners.create("a")
    slow, fast = scene.socket("a"), scene.socket("a")
    scene.turn()
    slow.stuck = True
    for n in range(200):
        scene.publish("a", BIG + str(n))
        scene.turn()
    assert slow.paused
    before = scene.hub._flush.rings.size
    scene.hub.on_push(1, amended(scene, 200, b'"new"', redacted=True))
    assert scene.hub._flush.rings.size == scene.hub.feeds["a"].ring.size < before
    slow.stuck = False
    slow.drain()
    scene.pass_time(2)
    slow.drain()
    assert slow.seqs() == fast.seqs() == list(range(1, 201))
    assert slow.frames("message")[-1]["payload"] == "new"


def test_an_event_in_a_repaired_gap_changes_what_the_ring_holds() -> None:
    """Its amendment was lost with it."""
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", "secret")
    scene.publish("a", "other")
    scene.turn()
    topic = scene.owners.topics["a"]
    tail = b'"message_id":"e","publisher_id":"p","payload":null,"kind":"redact","target_seq":1}'
    topic.frames.append(message_frame("a", 3, 1, tail))  # never pushed
    topic.ts.append(1)
    scene.publish("a", "last")
    scene.turn()
    ring = scene.hub.feeds["a"].ring
    assert len(ring.frames) == 4 and b"secret" not in b"".join(ring.frames)
    assert scene.hub._flush.rings.size == ring.size == sum(map(len, ring.frames))
