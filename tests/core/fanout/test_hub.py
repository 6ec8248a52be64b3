"""The engine on values: who gets what, in step and out of step, whatever sockets and owners do."""

import json
from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.core.wire.link import Fetch, Refused
from headgate.core.wire.rights import Caller
from tests.core.scene import Scene, texts

BIG = "x" * 1_000


def frames(data: bytes) -> list[Any]:
    return [json.loads(text) for text in texts(data)]


def test_the_messages_of_a_turn_are_one_write_a_socket() -> None:
    scene = Scene()
    scene.owners.create("a")
    sockets = [scene.socket("a") for _ in range(3)]
    scene.turn()
    before = [socket.writes for socket in sockets]
    for n in range(10):
        scene.publish("a", n)
    assert scene.scheduled == 1
    scene.turn()
    assert [socket.writes - start for socket, start in zip(sockets, before, strict=True)] == [1, 1, 1]
    assert all(socket.seqs() == list(range(1, 11)) for socket in sockets)
    assert scene.numbers.deliveries == {"durable": 30}


def test_what_a_client_is_told_when_it_comes_back_is_one_write() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", 1, 2)
    scene.turn()
    pipe = scene.open(preface=b"101")
    assert pipe.session is not None and scene.admit(pipe, Caller("bob")) and pipe.writes == 0
    scene.follow(pipe, "a", "seq:1")
    assert pipe.writes == 1 and pipe.data.startswith(b"101\x81")
    kinds = [frame["type"] for frame in frames(pipe.data[3:])]
    assert kinds == ["welcome", "subscribed", "message", "caught_up"]
    assert not pipe.session.preface, "a session in step holds nothing back"


def test_only_the_last_piece_of_a_replay_waits_for_caught_up() -> None:
    scene = Scene(Limits(queue_frames=20))
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", *range(25))
    scene.turn()
    pipe = scene.socket("a", form="seq:0")
    assert pipe.writes == 4, "welcome, subscribed with ten messages, ten more, the rest with caught_up"
    assert [frame["type"] for frame in pipe.frames()][-2:] == ["message", "caught_up"] and len(pipe.seqs()) == 25


def test_several_topics_with_news_are_one_write_for_who_follows_them() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.owners.create("b")
    both, one = scene.socket("a", "b"), scene.socket("a")
    before = both.writes
    for n in range(5):
        scene.publish("a", n)
        scene.publish("b", n)
    scene.turn()
    assert both.writes == before + 1
    assert [(f["topic_id"], f["payload"]) for f in both.frames("message")] == [(t, n) for t in "ab" for n in range(5)]
    assert one.seqs() == [1, 2, 3, 4, 5]


def test_a_second_topic_and_its_end_change_nothing_for_the_first() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.owners.create("b")
    socket = scene.socket("a")
    scene.publish("a", 1)
    scene.follow(socket, "b")
    scene.publish("b", 1)
    scene.turn()
    scene.say(socket, type="unsubscribe", topic_id="b")
    scene.publish("a", 2)
    scene.publish("b", 2)
    scene.turn()
    assert [(f["topic_id"], f["seq"]) for f in socket.frames("message")] == [("a", 1), ("b", 1), ("a", 2)]


def test_a_subscriber_gets_nothing_from_before_its_grant() -> None:
    scene = Scene()
    scene.owners.create("a")
    early = scene.socket("a")
    scene.publish("a", 1)
    late = scene.socket("a")  # granted at seq 1, which the feed has not yet written
    scene.publish("a", 2)
    scene.turn()
    assert early.seqs() == [1, 2] and late.seqs() == [2]


def test_caught_up_is_never_below_the_head_of_the_grant() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", 1)
    scene.turn()
    scene.publish("a", 2, 3)
    late = scene.socket("a", form="seq:1")
    assert late.frames("subscribed")[0]["seq"] == 3 and late.frames("caught_up") == []
    scene.turn()
    assert [f["type"] for f in late.frames()][-3:] == ["message", "message", "caught_up"]
    assert late.frames("caught_up")[0]["seq"] == 3 and late.seqs() == [2, 3]


@pytest.mark.parametrize("framing", ["websocket", "sse"])
def test_a_parked_session_comes_back_from_the_ring_and_misses_nothing(framing: str) -> None:
    scene = Scene()
    scene.owners.create("a")
    other = scene.socket("a")
    slow = scene.socket("a") if framing == "websocket" else scene.stream("a")
    slow.stuck = True
    for n in range(500):
        scene.publish("a", n)
        scene.publish("a", BIG)
        scene.turn()
    feed = scene.hub.feeds["a"]
    assert feed.in_step == 1 and slow.waiting <= Limits().high_water + Limits().piece_bytes
    slow.stuck = False
    slow.drain()
    scene.publish("a", "last")
    scene.turn()
    assert feed.in_step == 2
    if framing == "websocket":
        assert slow.seqs() == other.seqs() == list(range(1, 1_002))
    else:
        assert [int(line.split(b":")[2]) for line in slow.data.split(b"\n") if line.startswith(b"id: ")] == list(
            range(1_002)  # the first is that of `subscribed`
        )
    assert not any(isinstance(asked, Fetch) for asked in scene.owners.asked)


def test_what_the_ring_has_forgotten_comes_from_the_owner() -> None:
    scene = Scene(Limits(ring_frames=10))
    scene.owners.create("a")
    slow = scene.socket("a")
    slow.stuck = True
    for n in range(1_500):
        scene.publish("a", n, BIG)
        scene.turn()
    slow.stuck = False
    slow.drain()
    scene.turn()
    assert slow.seqs() == list(range(1, 3_001))
    assert any(isinstance(asked, Fetch) for asked in scene.owners.asked)


def test_a_page_that_comes_while_the_socket_is_full_is_asked_for_again() -> None:
    scene = Scene(Limits(ring_frames=10))
    scene.owners.create("a")
    scene.owners.publish("a", *[BIG] * 3_000)
    slow = scene.open()
    slow.stuck = True
    assert slow.session is not None
    scene.admit(slow, Caller("bob"))
    scene.follow(slow, "a", "earliest")
    while len(slow.seqs()) < 3_000:
        assert slow.highest <= 1 << 20
        slow.take(100_000)
    slow.drain()
    assert slow.seqs() == list(range(1, 3_001))
    assert slow.frames()[-1]["type"] == "caught_up"


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest"])
def test_on_slow_applies_to_a_session_that_was_in_step_and_fell_too_far_behind(policy: str) -> None:
    scene = Scene(Limits(slow_messages=300, ring_frames=100))
    scene.owners.create("a", settings={"on_slow": policy})
    slow = scene.socket("a")
    slow.stuck = True
    for _ in range(400):
        scene.publish("a", BIG)
        scene.turn()
        slow.take(1)
    scene.pass_time(2)
    if policy == "disconnect":
        assert slow.code == 4508 and slow.frames()[-1]["code"] == 4508 and slow.frames()[-1]["reconnect"]
        assert scene.owners.topics["a"].count == 0
        return
    slow.stuck = False
    slow.drain()
    scene.publish("a", "last")
    scene.turn()
    (gap,) = slow.frames("gap")
    assert (gap["reason"], gap["recoverable"]) == ("slow_consumer", True)
    assert gap["count"] == gap["to_seq"] - gap["from_seq"] + 1 == scene.numbers.gaps["slow_consumer"]
    got = [f["seq"] for f in slow.frames("message")]
    assert got == [*range(1, gap["from_seq"]), *range(gap["to_seq"] + 1, 402)]


def test_a_replay_that_was_asked_for_is_not_cut_while_the_socket_takes_bytes() -> None:
    scene = Scene(Limits(slow_messages=100, ring_frames=100))
    scene.owners.create("a")
    scene.owners.publish("a", *[BIG] * 2_000)
    slow = scene.socket("a", form="earliest")
    slow = scene.open()
    slow.stuck = True
    assert slow.session is not None
    scene.admit(slow, Caller("bob"))
    scene.follow(slow, "a", "earliest")
    for _ in range(200):
        slow.session.hear(scene.now)
        scene.pass_time(1)
        slow.take(20_000)
    slow.drain()
    assert slow.code is None and slow.seqs() == list(range(1, 2_001))


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "conflate", "disconnect"])
def test_an_ephemeral_topic_keeps_little_for_a_parked_session(policy: str) -> None:
    scene = Scene(Limits(ring_frames=50))
    scene.owners.create("a", settings={"profile": "ephemeral", "on_slow": policy})
    slow = scene.socket("a")
    slow.stuck = True
    for n in range(300):
        scene.publish("a", [n, BIG])
        scene.turn()
    parked_at = len(slow.frames("message"))
    if policy == "disconnect":
        slow.take(1)
        scene.pass_time(2)
        assert slow.code == 4508
        return
    slow.stuck = False
    slow.drain()
    scene.publish("a", [300])
    scene.turn()
    got = [f["payload"][0] for f in slow.frames("message")]
    (gap,) = slow.frames("gap")
    assert set(gap) == {"type", "topic_id", "count", "reason", "recoverable"} and not gap["recoverable"]
    assert gap["count"] + len(got) == 301
    kept = len(got) - parked_at - 1
    assert got == [*range(parked_at), *range(300 - kept, 301)]
    assert kept == {"drop_newest": 0, "conflate": 1}.get(policy, kept) and (policy != "drop_oldest" or kept >= 50)


def test_a_join_larger_than_a_write_is_written_topic_by_topic() -> None:
    scene = Scene()
    topics = [f"t{n}" for n in range(8)]
    for topic in topics:
        scene.owners.create(topic)
    socket = scene.socket(*topics)
    socket.stuck = True
    for topic in topics:
        scene.publish(topic, *[BIG] * 200)
    scene.turn()
    assert socket.highest <= 1 << 20
    socket.stuck = False
    socket.drain()
    for topic in topics:
        assert [f["seq"] for f in socket.frames("message") if f["topic_id"] == topic] == list(range(1, 201))


def test_a_session_that_its_own_last_frame_parks_is_not_kept() -> None:
    scene = Scene()
    scene.owners.create("a")
    socket = scene.socket("a")
    socket.stuck = True
    socket.waiting = scene.hub.limits.high_water  # the next byte parks it
    assert socket.session is not None
    scene.hub.disconnect(socket.session, 4601)
    assert socket.paused and socket.code == 4601
    scene.pass_time(2)
    assert scene.hub.catchup.sessions() == [] and scene.hub.session_count == 0


def test_a_parked_session_that_is_lost_is_forgotten_at_once() -> None:
    scene = Scene()
    scene.owners.create("a")
    socket = scene.socket("a")
    assert socket.session is not None
    scene.hub.catchup.park(socket.session, scene.now)
    scene.hub.lost(socket.session)
    assert scene.hub.catchup.sessions() == []


@pytest.mark.parametrize(
    ("code", "after_ms", "ended"),
    [("not_found", None, None), ("rate_limited", 2_500, 4503), ("overloaded", None, 4503), ("not_ready", None, 4503)],
)
def test_an_sse_request_that_is_refused_is_answered_or_to_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, code: str, after_ms: int | None, ended: int | None
) -> None:
    scene = Scene()
    extra = {} if after_ms is None else {"retry_after_ms": after_ms}
    monkeypatch.setattr(scene.owners, "answer", lambda ask: Refused(ask.req, code, "planted", extra))
    stream = scene.stream("a")
    if code == "not_ready":
        assert stream.code is None, "it waits for the owner"
        scene.pass_time(scene.hub.limits.hold_s + 1)
    assert (stream.code, stream.refused is None) == (ended, ended is not None)
    if ended is None:
        assert (stream.refused.code, stream.refused.detail) == (code, "planted")
    else:
        assert b'"retry_after_ms":%d' % (after_ms or 1_000) in stream.data
    assert scene.numbers.refusals == [code] and all(scene.numbers.details) and scene.hub.session_count == 0


def test_rings_are_bounded_for_the_whole_process() -> None:
    scene = Scene(Limits(rings_bytes=100_000))
    sockets = {}
    for n in range(20):
        scene.owners.create(f"t{n}")
        sockets[n] = scene.socket(f"t{n}")
        scene.publish(f"t{n}", *[BIG] * 20)
        scene.turn()
    assert sum(feed.ring.size for feed in scene.hub.feeds.values()) <= 100_000
    assert scene.hub.feeds["t0"].ring.size == 0 and scene.hub.feeds["t19"].ring.size > 0


def test_the_close_names_the_reason_of_an_ended_stream_and_the_class_of_a_code() -> None:
    scene = Scene()
    scene.owners.create("a")
    stream, socket = scene.stream("a"), scene.socket()
    scene.owners.delete("a")
    assert (stream.code, stream.reason) == (1000, "deleted")
    assert socket.session is not None
    scene.hub.disconnect(socket.session, 4508)
    assert (socket.code, socket.reason) == (4508, "slow consumer")
