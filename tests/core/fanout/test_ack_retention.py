"""Acknowledged subscriptions whose cursor retention has passed."""

from tests.core.fanout.acking import AckScene, got


def test_what_was_acknowledged_does_not_come_again_where_retention_has_cut_the_topic() -> None:
    """The cursor is below what is kept. What was acknowledged above a refused message counts, failures too."""
    scene = AckScene()
    bob = scene.acker()
    scene.send(1, 2, 3, 4, 5, 6)
    scene.nack(bob, 2)
    scene.nack(bob, 5)
    scene.ack(bob, 4)
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.pass_time(1.25)
    scene.owners.forget("a", 3)
    again = scene.acker()
    assert [(gap["from_seq"], gap["to_seq"]) for gap in again.frames("gap")] == [(2, 2)]
    scene.pass_time(1.25)
    assert got(again) == [(5, 2), (6, 1)]
    asked = scene.acker(device_id="other", form={"seq": 0})
    assert [seq for seq, _ in got(asked)] == [3, 4, 5, 6]
