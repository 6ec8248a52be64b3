"""What an owner asks about a user: the end of his subscriptions, and the list of his connections."""

import pytest

from headgate.core.client.inbound import Subscribe
from headgate.core.fanout import user_requests
from headgate.core.fanout.session import Session
from headgate.core.wire.link_users import AskConnections, ConnectionsAnswer, EndSubscriptions, SubscriptionsEnded
from tests.core.scene import Pipe, Scene


def session_of(pipe: Pipe) -> Session:
    assert pipe.session is not None
    return pipe.session


def listed(scene: Scene, user: str) -> ConnectionsAnswer:
    scene.owners.push(AskConnections(5, user))
    answer = scene.owners.answers.pop()
    assert isinstance(answer, ConnectionsAnswer) and answer.req == 5
    return answer


def test_a_users_subscriptions_to_a_topic_end_and_are_counted() -> None:
    scene = Scene()
    for topic in ("a", "b"):
        scene.owners.create(topic)
    one, two, other = scene.socket("a", "b", user="ann"), scene.socket("a", user="ann"), scene.socket("a", user="eve")
    scene.owners.push(EndSubscriptions(3, "ann", "a"))
    assert scene.owners.answers == [SubscriptionsEnded(3, 2)]
    for pipe in (one, two):
        assert pipe.frames()[-1] == {"type": "unsubscribed", "topic_id": "a", "reason": "ended"}
    assert other.frames("unsubscribed") == []
    assert (scene.owners.topics["a"].count, scene.owners.topics["b"].count) == (1, 1)
    scene.owners.push(EndSubscriptions(4, "ann", "a"))
    assert scene.owners.answers[-1] == SubscriptionsEnded(4, 0)


@pytest.mark.parametrize(("connection_id", "count"), [("0c", 1), ("x", 0)])
def test_those_of_one_connection_end_where_it_is_named(connection_id: str, count: int) -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a", user="ann")
    scene.owners.push(EndSubscriptions(3, "ann", "a", connection_id))
    assert scene.owners.answers == [SubscriptionsEnded(3, count)]
    assert scene.owners.topics["a"].count == 1 - count


def test_an_sse_stream_ends_with_its_subscription() -> None:
    scene = Scene()
    scene.owners.create("a")
    stream = scene.stream("a")
    assert scene.users.end("bob", "a") == 1 and stream.code == 1000 and scene.hub.session_count == 0


def test_who_is_held_at_a_fence_is_ended_too() -> None:
    scene = Scene()
    scene.owners.create("a", members={"ann": "member"})
    ann = scene.socket("a", user="ann")
    scene.owners.slow = True
    scene.owners.permit("a", "PRIVATE")
    scene.owners.deliver(1)
    assert scene.users.end("ann", "a") == 1
    scene.owners.deliver()
    assert [frame["reason"] for frame in ann.frames("unsubscribed")] == ["ended"]


def test_a_users_connections_are_described() -> None:
    scene = Scene()
    for topic in ("a", "b"):
        scene.owners.create(topic)
    start = int(scene.now * 1_000)
    socket = scene.socket("a", user="ann")
    scene.pass_time(10)
    session_of(socket).hear(scene.now)
    scene.hub.subscribe(session_of(socket), Subscribe("b", None, False, "phone"), scene.moment)
    scene.pass_time(5)
    scene.socket("a", user="eve")
    (found,) = listed(scene, "ann").connections
    assert (found.connection_id, found.user_id, found.device_id) == ("0c", "ann", "phone")
    assert (found.connected_at, found.last_heartbeat) == (start, start + 10_000)
    assert (found.gateway, found.transport) == ("g", "websocket")
    times = {topic.topic_id: topic.subscribed_at for topic in found.subscriptions}
    assert times == {"a": start, "b": start + 10_000}
    assert len({topic.subscription_id for topic in found.subscriptions}) == 2


def test_an_sse_stream_lives_while_its_comments_are_taken() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.stream("a")
    scene.pass_time(20)
    (found,) = listed(scene, "bob").connections
    assert found.transport == "sse" and found.device_id == "default"
    assert found.connected_at + 15_000 <= found.last_heartbeat <= found.connected_at + 15_500


def test_who_is_not_here_has_no_connections() -> None:
    answer = listed(Scene(), "ann")
    assert answer.connections == [] and answer.complete


def test_a_list_is_bounded_and_says_that_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_requests, "CONNECTIONS", 3)
    monkeypatch.setattr(user_requests, "SUBSCRIPTIONS", 4)
    scene = Scene()
    for topic in ("a", "b", "d"):
        scene.owners.create(topic)
    for count, complete in ((1, True), (2, True), (3, True), (3, False), (3, False)):
        scene.socket(user="ann")
        answer = listed(scene, "ann")
        assert (len(answer.connections), answer.complete) == (count, complete)
    for _ in range(2):
        scene.socket("a", "b", "d", user="eve")
    answer = listed(scene, "eve")
    assert len(answer.connections) == 1 and not answer.complete
