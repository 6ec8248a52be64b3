"""Acknowledged subscriptions at the gateway: window, redelivery, dead letters, cursors, takeover, owners that go."""

import pytest

from headgate.core.client.limits import Limits
from headgate.core.wire.link_acks import ReplaceSubscription
from headgate.core.wire.link_dead_letters import Receiver
from headgate.core.wire.link_deliveries import CountWritten, Written
from headgate.core.wire.link_members import TopicSettings
from headgate.core.wire.link_messages import Amended
from tests.core.fanout.acking import AckScene, got


def test_messages_come_once_and_the_cursor_follows_the_acks() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.turn()
    assert scene.cursors.seq("bob", "a") == 0  # the start is stored before the first acknowledgement
    scene.send("x", "y", "z")
    assert got(bob) == [(1, 1), (2, 1), (3, 1)]
    assert "attempt" not in bob.frames("message")[0]
    scene.ack(bob, 2)
    assert scene.cursors.seq("bob", "a") == 0
    scene.pass_time(0.75)
    scene.ack(bob, 3)
    scene.pass_time(1.0)
    assert (scene.cursors.seq("bob", "a"), got(bob)) == (3, [])
    assert bob.frames("ok") == []
    assert len(scene.cursors.moves) <= 3


def test_an_ack_with_an_id_is_answered_once_the_log_has_it() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send("x", "y")
    scene.cursors.away = True
    scene.ack(bob, 2, id=7)
    scene.turn()
    assert bob.frames("ok") == []
    scene.cursors.away = False
    scene.pass_time(1.25)
    assert bob.frames("ok") == [{"type": "ok", "id": 7}]
    assert scene.cursors.seq("bob", "a") == 2
    scene.ack(bob, 1, id="old")  # nothing changes: the log has it
    assert bob.frames("ok")[-1] == {"type": "ok", "id": "old"}
    scene.send("z")
    scene.ack(bob, 99, id=8)  # above what was sent: what was sent
    scene.turn()
    assert bob.frames("ok")[-1] == {"type": "ok", "id": 8}
    assert scene.cursors.seq("bob", "a") == 3


def test_frames_that_cannot_be_obeyed() -> None:
    scene = AckScene()
    scene.owners.create("b")
    bob = scene.socket("b")
    for kind in ("ack", "nack"):
        scene.say(bob, type=kind, topic_id="a", seq=1, id=1)
        assert bob.frames()[-1]["code"] == "not_found"
        scene.say(bob, type=kind, topic_id="b", seq=1, id=2)
        assert (bob.frames()[-1]["code"], "without ack" in bob.frames()[-1]["message"]) == ("bad_request", True)
        scene.say(bob, type=kind, topic_id="b", seq="x")
        assert bob.frames()[-1]["code"] == "bad_request"
    ann = scene.acker("ann")
    scene.nack(ann, 1, id=3)
    assert (ann.frames()[-1]["code"], ann.frames()[-1]["id"]) == ("not_found", 3)


def test_a_nack_brings_the_message_and_what_is_behind_it_again() -> None:
    scene = AckScene()
    bob, ann = scene.acker(), scene.acker("ann")
    scene.send(1, 2, 3)
    got(bob), got(ann)
    scene.nack(bob, 2, reason="busy", id=5)
    assert bob.frames("ok") == [{"type": "ok", "id": 5}]
    scene.ack(bob, 1)
    scene.ack(ann, 3)
    scene.send(4)
    assert (got(bob), got(ann)) == ([], [(4, 1)])
    scene.ack(ann, 4)
    scene.pass_time(1.25)
    assert (got(bob), got(ann)) == ([(2, 2), (3, 2), (4, 1)], [])
    assert scene.numbers.again == 2
    assert [frame["payload"] for frame in bob.frames("message")[-3:]] == [2, 3, 4]
    scene.ack(bob, 4)
    scene.send(5)
    assert got(bob) == [(5, 1)]


def test_without_an_ack_the_window_comes_again_for_this_subscription_alone() -> None:
    scene = AckScene()
    bob, plain = scene.acker(), scene.socket("a", user="eve")
    scene.send(1, 2)
    scene.pass_time(0.75)
    assert got(bob) == [(1, 1), (2, 1)]
    scene.pass_time(0.5)
    assert (got(bob), got(plain)) == ([(1, 2), (2, 2)], [(1, 1), (2, 1)])
    scene.ack(bob, 2)
    scene.pass_time(3.0)
    assert got(bob) == []


def test_a_message_that_always_fails_becomes_one_dead_letter_and_the_cursor_passes_it() -> None:
    scene = AckScene(retry={"max_attempts": 2})
    bob = scene.acker()
    scene.send(1, 2)
    scene.nack(bob, 1, reason="no")
    scene.ack(bob, 2)
    scene.pass_time(1.25)
    assert got(bob) == [(1, 1), (2, 1), (1, 2)]
    scene.cursors.away = True
    scene.nack(bob, 1, reason="never")
    assert scene.cursors.letters == []
    scene.pass_time(1.0)
    assert scene.cursors.seq("bob", "a") == 0
    scene.cursors.away = False
    scene.pass_time(2.0)
    (letter,) = scene.cursors.letters
    assert (letter.topic_id, letter.seq, letter.epoch) == ("a", 1, scene.topic.epoch)
    assert (letter.attempts, letter.reason, letter.last_error) == (2, "max_attempts", "never")
    assert letter.receiver == Receiver("bob", "default")
    scene.pass_time(1.0)
    assert (scene.cursors.seq("bob", "a"), got(bob)) == (2, [])
    scene.send(3)
    assert got(bob) == [(3, 1)]


def test_a_full_window_waits_and_an_ack_lets_it_go_on() -> None:
    scene = AckScene(Limits(ack_window=4))
    bob, plain = scene.acker(), scene.socket("a", user="eve")
    scene.send(1, 2, 3)
    scene.send(4, 5, 6)
    assert got(bob) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert len(got(plain)) == 6
    scene.send(7)
    assert got(bob) == []
    scene.ack(bob, 3)
    assert got(bob) == [(5, 1), (6, 1), (7, 1)]
    scene.ack(bob, 7)
    scene.send(8)
    assert got(bob) == [(8, 1)]
    assert scene.hub.feeds["a"].in_step == 2


def test_on_slow_does_not_apply_and_the_dead_socket_rule_does() -> None:
    scene = AckScene(Limits(ack_window=2, slow_messages=3, ring_frames=4))
    bob = scene.acker()
    for n in range(40):
        scene.send(n)
    scene.ack(bob, 2)
    assert bob.code is None
    seen = [seq for seq, _ in got(bob)]
    while seen[-1] < 40:
        scene.ack(bob, seen[-1])
        more = [seq for seq, _ in got(bob)]
        assert more, "the rest was read from the owner"
        seen += more
    assert seen == list(range(1, 41))
    bob.stuck = True
    bob.waiting = 1 << 20
    for _ in range(80):
        if bob.session is not None:
            bob.session.hear(scene.now)
        scene.pass_time(1.0)
    assert bob.code == 4508


def test_the_breaker_stops_a_subscription_that_keeps_failing() -> None:
    scene = AckScene(Limits(ack_breaker_failures=2, ack_breaker_s=30.0), retry={"max_attempts": 100})
    bob = scene.acker()
    scene.send(1, 2, 3)
    got(bob)
    scene.nack(bob, 1)
    scene.nack(bob, 2)
    assert scene.hub.acknowledging.open_breakers == 1
    scene.send(4)
    scene.pass_time(29.0)
    assert got(bob) == []
    scene.pass_time(1.5)
    assert got(bob) == [(1, 2)]
    assert scene.hub.acknowledging.open_breakers == 0
    scene.ack(bob, 1)
    assert got(bob) == [(2, 2), (3, 2), (4, 1)]


def test_another_session_of_the_device_takes_over_where_the_first_was() -> None:
    scene = AckScene()
    first = scene.acker()
    scene.send(1, 2, 3)
    scene.ack(first, 2)
    second = scene.acker()
    assert first.frames()[-1] == {"type": "unsubscribed", "topic_id": "a", "reason": "replaced"}
    subscribed = second.frames("subscribed")[0]
    assert (subscribed["resumed"], "reason" in subscribed) == (True, False)
    assert got(second) == [(3, 1)]
    scene.turn()
    scene.pass_time(2.0)
    assert len(scene.hub.acknowledging) == 1
    assert set(scene.cursors.leases) == {("bob", "default", "a")}
    other = scene.acker(device_id="phone")
    assert second.frames("unsubscribed") == []
    assert other.frames("subscribed")[0]["reason"] == "no_cursor"


def test_an_owner_asks_for_a_subscription_that_is_not_here() -> None:
    scene = AckScene()
    scene.acker()
    lease = scene.cursors.leases["bob", "default", "a"]
    scene.owners.push(ReplaceSubscription(5, type(lease)("bob", "default", "a", "other", 1)))
    assert scene.cursors.replaced[-1].cursor is None
    scene.owners.push(ReplaceSubscription(6, lease))
    cursor = scene.cursors.replaced[-1].cursor
    assert cursor is not None
    assert (cursor.seq, cursor.epoch) == (0, scene.topic.epoch)
    assert len(scene.hub.acknowledging) == 0


def test_a_subscribe_that_was_taken_over_before_its_grant_ends() -> None:
    scene = AckScene()
    scene.owners.slow = True
    bob = scene.acker()
    scene.owners.deliver(1)  # that he may
    lease = scene.cursors.leases["bob", "default", "a"]
    scene.users.receive(ReplaceSubscription(5, lease), scene.moment)
    scene.owners.deliver()
    assert bob.frames()[-1] == {"type": "unsubscribed", "topic_id": "a", "reason": "replaced"}
    assert (bob.frames("subscribed"), scene.topic.count) == ([], 0)


def test_a_new_owner_of_the_users_shard_is_told_the_leases() -> None:
    scene = AckScene()
    scene.acker()
    scene.acker("ann")
    scene.owners.go()
    scene.owners.come()
    assert {lease.user_id for attach in scene.cursors.attached for lease in attach.leases} == {"bob", "ann"}
    assert all(attach.first and attach.last for attach in scene.cursors.attached)


def test_the_cursor_is_sent_at_the_end_and_then_the_lease_is_free() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1, 2)
    scene.ack(bob, 1)
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.turn()
    assert (scene.cursors.seq("bob", "a"), scene.cursors.leases) == (1, {})
    again = scene.acker()
    assert got(again) == [(2, 1)]


def test_what_was_refused_is_remembered_by_the_next_session() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1, 2, 3)
    scene.nack(bob, 1)
    scene.ack(bob, 3)
    assert bob.session is not None
    scene.hub.lost(bob.session)
    scene.turn()
    again = scene.acker()
    scene.turn()
    assert got(again) == [(1, 2)]
    assert [frame["seq"] for frame in again.frames("caught_up")] == [3]
    scene.ack(again, 1)
    scene.pass_time(1.0)
    assert scene.cursors.seq("bob", "a") == 3
    scene.send(4)
    assert (got(again), len(again.frames("caught_up"))) == ([(4, 1)], 1)


def test_a_message_that_failed_waits_until_the_log_knows_it() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1, 2)
    scene.cursors.away = True
    scene.nack(bob, 1)
    scene.pass_time(3.0)
    assert got(bob) == [(1, 1), (2, 1)], "a crash now would forget that it failed"
    scene.cursors.away = False
    scene.pass_time(1.25)
    assert scene.cursors.cursors["bob", "default", "a"].attempts == [(1, 1)]
    assert got(bob) == [(1, 2), (2, 2)]


def test_a_failure_is_told_at_once() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1)
    scene.nack(bob, 1)
    scene.turn()
    assert scene.cursors.cursors["bob", "default", "a"].attempts == [(1, 1)]


def test_a_redelivery_is_the_message_as_it_is_now() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send("secret", "other")
    scene.owners.push(Amended("a", scene.topic.epoch, 1, b"", True))
    scene.pass_time(1.25)
    again = bob.frames("message")[2]
    assert (again["seq"], again["attempt"], again["payload"], again["redacted"]) == (1, 2, None, True)


def test_a_member_without_the_right_gets_no_redelivery() -> None:
    scene = AckScene(permissions="PRIVATE", members={"bob": "member"})
    bob = scene.acker()
    scene.send(1)
    scene.owners.slow = True
    scene.owners.demote("a", "bob", "publisher")  # type: ignore[arg-type]
    scene.owners.deliver(1)
    scene.pass_time(5.0)
    assert got(bob) == [(1, 1)]
    scene.owners.deliver()
    assert bob.frames()[-1] == {"type": "unsubscribed", "topic_id": "a", "reason": "forbidden"}


def test_new_retry_settings_count_from_the_next_failure() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1)
    settings = scene.topic.settings | {"retry": scene.topic.settings["retry"] | {"max_attempts": 1}}
    scene.owners.push(TopicSettings("a", scene.topic.epoch, settings))
    scene.nack(bob, 1)
    assert [letter.attempts for letter in scene.cursors.letters] == [1]


def test_what_is_kept_no_longer_is_a_gap_and_the_cursor_passes_it() -> None:
    scene = AckScene(Limits(ack_window=2, ring_frames=2))
    bob = scene.acker()
    for n in range(10):
        scene.send(n)
    scene.owners.forget("a", 8)
    scene.ack(bob, 2)
    assert got(bob) == [(1, 1), (2, 1), (8, 1), (9, 1)]
    assert bob.frames("gap")[0]["to_seq"] == 7
    scene.pass_time(0.5)
    scene.ack(bob, 9, id=1)
    scene.turn()
    assert scene.cursors.seq("bob", "a") == 9


@pytest.mark.parametrize("form", ["live", {"last": 2}, {"seq": 1}])
def test_other_places_are_stored_as_the_cursor_at_once(form: object) -> None:
    scene = AckScene()
    scene.send(1, 2, 3)
    bob = scene.acker(form=form)
    scene.turn()
    begin = 3 if form == "live" else 1
    assert scene.cursors.seq("bob", "a") == begin
    assert [seq for seq, _ in got(bob)] == list(range(begin + 1, 4))


def test_the_counts_of_publishers_who_wait_count_a_message_once() -> None:
    scene = AckScene(Limits(ack_window=1))
    bob = scene.acker()
    scene.owners.push(CountWritten("a", scene.topic.epoch, 2, 5))
    scene.send(1, 2)
    scene.pass_time(1.25)
    scene.ack(bob, 1)
    scene.pass_time(1.5)
    assert got(bob) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    written = [message for message in scene.owners.asked if isinstance(message, Written)]
    assert (written[-1].count, written[-1].done) == (1, True)


def test_a_message_that_fails_twice_and_then_succeeds_has_three_attempts() -> None:
    scene = AckScene()
    bob, ann = scene.acker(), scene.acker("ann")
    scene.send(1)
    scene.ack(ann, 1)
    for _ in range(2):
        scene.nack(bob, 1)
        scene.pass_time(1.25)
    scene.ack(bob, 1)
    scene.pass_time(5.0)
    assert (got(bob), got(ann), scene.cursors.letters) == ([(1, 1), (1, 2), (1, 3)], [(1, 1)], [])


def test_a_page_that_was_asked_for_before_a_nack_is_asked_for_again() -> None:
    scene = AckScene(Limits(ack_window=4, ring_frames=2))
    bob = scene.acker()
    for n in range(10):
        scene.send(n)
    assert got(bob) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    scene.owners.forget("a", 8)
    scene.owners.slow = True
    scene.ack(bob, 2)
    scene.nack(bob, 3)
    scene.owners.slow = False
    scene.owners.deliver()
    assert bob.frames("gap") == []
    scene.pass_time(1.25)
    assert [(gap["from_seq"], gap["to_seq"]) for gap in bob.frames("gap")] == [(3, 7)]
    assert got(bob) == [(8, 1), (9, 1), (10, 1)]
