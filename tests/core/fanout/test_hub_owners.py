"""The hub and the owners: epochs, announcements, grants that nobody waits for."""

import pytest

from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.wire.link import AskSubscribe, Attach, Ended, Leave, Message, Messages
from headgate.core.wire.link_acks import AttachCursors
from headgate.core.wire.link_users import AttachUsers
from headgate.core.wire.rights import Caller
from tests.core.fanout.acking import AckScene
from tests.core.fanout.sweeping import SweepScene, served
from tests.core.scene import Scene


def test_another_epoch_ends_the_old_feed() -> None:
    scene = Scene()
    old = scene.owners.create("a")
    socket = scene.socket("a")
    new = scene.owners.create("a")
    scene.hub.on_push(1, Messages("a", new.epoch, 1, [0], [b'{"type":"message","seq":1}']))
    assert socket.frames()[-1] == {"type": "unsubscribed", "topic_id": "a", "reason": "deleted"}
    scene.follow(socket, "a")
    scene.hub.on_push(1, Messages("a", old.epoch, 9, [0], [b'{"type":"message","seq":9}']))  # an owner of the past
    scene.turn()
    assert socket.seqs() == []


def test_all_topics_of_a_query_are_held_while_the_number_of_shards_is_not_known() -> None:
    scene = Scene()
    for topic in "abc":
        scene.owners.create(topic)
    scene.owners.shards = 0
    pipe = scene.open()
    assert pipe.session is not None
    scene.hub.pending.want(pipe.session, [(topic, Subscribe(topic, None, False)) for topic in "abc"])
    scene.admit(pipe, Caller("bob", service=True))
    scene.hub.begin(pipe.session, scene.moment)
    assert scene.hub.pending.count(pipe.session) == 3 and not scene.owners.asked
    scene.owners.come()
    assert [frame["topic_id"] for frame in pipe.frames("subscribed")] == ["a", "b", "c"]


def test_a_new_owner_is_told_what_is_hosted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.fanout.feed.ATTACH_CHUNK", 2)
    scene = Scene()
    hosted = [f"t{n}" for n in range(40)]
    for topic in hosted:
        scene.owners.create(topic)
        scene.socket(topic)
    scene.publish("t0", 1)
    scene.owners.asked.clear()
    scene.owners.come()
    chunks = [m for m in scene.owners.asked if isinstance(m, Attach)]
    for shard in range(4):
        mine = [chunk for chunk in chunks if chunk.shard == shard]
        assert [chunk.first for chunk in mine] == [True] + [False] * (len(mine) - 1)
        assert [chunk.last for chunk in mine] == [False] * (len(mine) - 1) + [True]
    told = {topic.topic_id: topic for chunk in chunks for topic in chunk.topics}
    assert sorted(told) == sorted(hosted) and told["t0"].cursor == 1 and told["t1"].count == 1


def test_a_grant_that_nobody_waits_for_is_given_back() -> None:
    scene = Scene()
    scene.owners.create("a")
    answers = []
    request = scene.owners.request

    def later(shard, build, on_answer):  # type: ignore[no-untyped-def]
        request(shard, build, lambda answer: answers.append((on_answer, answer)))

    scene.owners.request = later  # type: ignore[method-assign]
    socket = scene.socket("a")
    assert socket.session is not None
    scene.hub.drop(socket.session)
    for on_answer, answer in answers:
        on_answer(answer)
    assert isinstance(scene.owners.asked[-1], Leave) and scene.owners.topics["a"].count == 0
    assert scene.hub.feeds == {} and scene.hub.subscription_count == 0


@pytest.mark.parametrize(("later", "ends"), [(-1, False), (0, True), (1, True)])
def test_a_topic_s_end_reaches_its_feed_but_not_a_newer_one(later: int, ends: bool) -> None:
    scene = Scene()
    epoch = scene.owners.create("a").epoch
    scene.owners.create("b")
    socket, other = scene.socket("a"), scene.socket("b")
    scene.hub.on_push(1, Ended("a", epoch + later, "deleted"))
    told = [{"type": "unsubscribed", "topic_id": "a", "reason": "deleted"}] if ends else []
    assert socket.frames("unsubscribed") == told and ("a" in scene.hub.feeds) is not ends
    assert other.frames("unsubscribed") == [] and "b" in scene.hub.feeds


def test_a_new_owner_is_told_of_its_own_shard_and_one_that_went_is_told_nothing() -> None:
    scene = Scene()
    topics = [f"t{n}" for n in range(12)]
    for topic in topics:
        scene.owners.create(topic)
        scene.socket(topic)
    shard = scene.owners.shard_of("t0")
    scene.owners.asked.clear()
    scene.hub.on_owner(shard, False)
    assert scene.owners.asked == []
    scene.hub.on_owner(shard, True)
    attached = [message for message in scene.owners.asked if isinstance(message, Attach)]
    assert {message.shard for message in attached} == {shard}
    told = [topic.topic_id for message in attached for topic in message.topics]
    assert told == [topic for topic in topics if scene.owners.shard_of(topic) == shard] and len(told) < len(topics)


@pytest.mark.parametrize("missing", ["owner", "number of shards"])
def test_a_held_subscribe_is_asked_again_once_a_second_when_an_owner_is_linked(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    scene = Scene()
    scene.owners.create("a")
    if missing == "owner":
        scene.owners.up = False
    else:
        scene.owners.shards = 0
    socket = scene.socket("a")
    scene.pass_time(2)
    asked = len(scene.owners.asked)
    assert socket.frames("subscribed") == []
    scene.owners.up, scene.owners.shards = True, 4
    monkeypatch.setattr(scene.owners, "linked", {shard: True for shard in range(4)}.__getitem__)  # no shard: no owner
    scene.pass_time(0.75)
    assert socket.frames("subscribed") == [] and len(scene.owners.asked) == asked
    scene.pass_time(0.25)
    assert len(socket.frames("subscribed")) == 1


def test_a_grant_of_a_newer_topic_ends_the_older_feed() -> None:
    scene = Scene()
    scene.owners.create("a")
    old = scene.socket("a")
    new_epoch = scene.owners.create("a").epoch
    new = scene.socket("a")
    assert old.frames("unsubscribed") == [{"type": "unsubscribed", "topic_id": "a", "reason": "deleted"}]
    assert scene.hub.feeds["a"].epoch == new_epoch and scene.hub.feeds["a"].count == 1
    scene.publish("a", 1)
    scene.turn()
    assert (old.seqs(), new.seqs(), scene.hub.subscription_count) == ([], [1], 1)


def test_who_is_ended_while_his_held_subscribes_are_asked_again_is_asked_for_no_longer() -> None:
    scene = Scene(Limits(slow_messages=5, ring_frames=2))
    x = scene.owners.create("x")
    for topic in "ab":
        scene.owners.create(topic)
    socket = scene.socket("x")
    assert socket.session is not None
    scene.hub.catchup.park(socket.session, scene.now)
    scene.owners.go()
    push = [Messages("x", x.epoch, seq, [0], [b'{"type":"message","seq":%d}' % seq]) for seq in range(1, 9)]
    for message in push[:5]:
        scene.hub.on_push(1, message)
    scene.turn()
    scene.hub.resume(socket.session, scene.moment)
    for topic in "ab":
        scene.follow(socket, topic)
    for message in push[5:]:
        scene.hub.on_push(1, message)
    scene.turn()
    scene.owners.asked.clear()
    scene.owners.come()
    asked = [message.topic_id for message in scene.owners.asked if isinstance(message, AskSubscribe)]
    assert socket.code == 4508 and len(asked) <= 1


def test_a_stream_whose_owner_stays_away_is_ended_to_come_again() -> None:
    scene = Scene(Limits(hold_s=10))
    scene.owners.create("a")
    scene.owners.up = False
    stream, socket = scene.stream("a"), scene.socket("a")
    scene.pass_time(11)
    assert stream.code == 4503 and stream.refused is None
    (error,) = socket.frames("error")
    assert (error["code"], error["retry_after_ms"], socket.code) == ("not_ready", 1_000, None)
    assert scene.hub.connections.all() == [socket.session]


def test_a_stream_that_is_refused_is_answered_with_the_refusal_and_forgotten() -> None:
    scene = Scene()
    scene.owners.create("a", permissions="PUBLISH_ONLY")
    stream = scene.stream("a")
    assert stream.refused.code == "forbidden" and stream.code is None and scene.hub.connections.all() == []


def test_a_new_owner_hears_the_leases_before_the_users() -> None:
    """Once it has heard all users it gives new leases."""
    scene = AckScene()
    scene.acker()
    scene.owners.go()
    sent: list[tuple[int, type]] = []
    send = scene.owners.send

    def noted(shard: int, message: Message) -> None:
        sent.append((shard, type(message)))
        send(shard, message)

    scene.owners.send = noted  # type: ignore[method-assign]
    scene.owners.come()
    shard = scene.owners.shard_of_user("bob")
    assert sent.index((shard, AttachCursors)) < sent.index((shard, AttachUsers))


def test_a_new_owner_hears_the_lease_of_a_subscribe_that_its_topic_has_not_granted() -> None:
    scene = AckScene()
    scene.owners.slow = True
    scene.acker()
    scene.owners.deliver(2)  # that he may, and the cursor
    scene.owners.regain_owners()
    (lease,) = [lease for attach in scene.cursors.attached for lease in attach.leases]
    assert lease == scene.cursors.leases["bob", "default", "a"]


def test_a_topic_is_direct_until_its_new_owner_says_otherwise() -> None:
    scene = SweepScene()
    pipes = scene.crowd(4)
    scene.owners.create("b")
    scene.socket("b")
    for topic in ("a", "b"):
        scene.heat("inbox", topic)
    scene.publish("a", "begun")
    scene.slice()
    scene.owners.come()  # in the middle of a sweep
    assert [scene.feed(topic).heat for topic in ("a", "b")] == ["direct", "direct"]
    scene.heat("paced", "b")
    scene.turn()
    assert scene.feed("b").heat == "paced" and served(pipes) == [1] * 4
    scene.publish("a", "next")
    scene.turn()
    assert served(pipes) == [2] * 4, "no pause of an inbox topic between two sweeps"
