"""Requests for a `presence` frame: one after the other, none of a socket that takes nothing, and within their bound."""

from collections.abc import Callable

import pytest

from headgate.core.client.framing import ClientFrame
from headgate.core.client.inbound import Subscribe
from headgate.core.client.outbound import FrameId, ok
from headgate.core.fanout.presence_questions import MAX_WAITING, PresenceQuestions
from headgate.core.fanout.session import Session, Subscription
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer
from headgate.core.wire.link_presence import PresenceAnswer
from headgate.core.wire.rights import Caller
from tests.core.scene import Pipe, Scene

ANSWER = PresenceAnswer(1, 0, [])


class Asking:
    """Questions of one session, and what their owner was asked; `at_once` answers within the question."""

    def __init__(self) -> None:
        self.scene = Scene()
        for topic in "ab":
            self.scene.owners.create(topic)
        self.pipe = self.scene.socket("a", "b")
        assert self.pipe.session is not None
        self.session = self.pipe.session
        self.asked: list[Callable[[Answer], None]] = []
        self.at_once = False
        self.questions = PresenceQuestions(self._ask, self._build)

    def _ask(self, session: Session, subscription: Subscription, on_answer: Callable[[Answer], None]) -> None:
        self.asked.append(on_answer)
        if self.at_once:
            on_answer(ANSWER)

    def _build(self, topic_id: str, answer: Answer, frame_id: FrameId) -> ClientFrame | None:
        return None if frame_id == "none" else ok(frame_id)

    def add(self, *ids: FrameId, topic: str = "a") -> None:
        for frame_id in ids:
            self.questions.add(self.session, topic, frame_id)

    @property
    def answered(self) -> list[FrameId]:
        return [frame["id"] for frame in self.pipe.frames("ok")]


def test_they_are_asked_one_after_the_other() -> None:
    scene = Asking()
    scene.add(1, "none")
    scene.add(2, topic="b")
    for number in (1, 2, 3):
        assert len(scene.asked) == number
        scene.asked[-1](ANSWER)
    assert len(scene.asked) == 3 and scene.answered == [1, 2]
    scene.add(3)
    assert len(scene.asked) == 4


def test_none_is_asked_while_the_socket_is_full() -> None:
    scene = Asking()
    scene.add(1)
    scene.session.pause(1.0)
    scene.asked[0](ANSWER)
    scene.add(2)
    assert len(scene.asked) == 1 and scene.answered == [1], "what was asked for before is written"
    scene.session.resume()
    scene.questions.go_on(scene.session)
    assert len(scene.asked) == 2


def test_an_owner_in_this_process_answers_as_many_as_wait() -> None:
    scene = Asking()
    scene.at_once = True
    scene.session.pause(1.0)
    scene.add(*range(MAX_WAITING))
    scene.session.resume()
    scene.questions.go_on(scene.session)
    assert scene.answered == list(range(MAX_WAITING))


def test_above_the_bound_they_are_refused_and_the_others_are_answered() -> None:
    scene = Asking()
    scene.session.pause(1.0)
    scene.add(*range(MAX_WAITING))
    for _ in range(MAX_WAITING // 2):
        with pytest.raises(Refusal) as refused:
            scene.add(-1)
        assert refused.value.code == "rate_limited" and refused.value.retry_after_ms
    scene.at_once = True
    scene.session.resume()
    scene.questions.go_on(scene.session)
    assert scene.answered == list(range(MAX_WAITING))
    scene.add(-1)
    assert scene.answered[-1] == -1


def test_a_topic_that_was_left_meanwhile_is_not_found() -> None:
    scene = Asking()
    scene.add(1)
    scene.add(2, topic="b")
    scene.scene.say(scene.pipe, type="unsubscribe", topic_id="b")
    scene.asked[0](ANSWER)
    (error,) = scene.pipe.frames("error")
    assert (error["id"], error["code"], error["topic_id"], len(scene.asked)) == (2, "not_found", "b", 1)


def test_nothing_is_asked_for_a_session_that_has_ended() -> None:
    scene = Asking()
    scene.add(1, 2)
    scene.scene.hub.lost(scene.session)
    scene.questions.drop(scene.session)
    scene.asked[0](ANSWER)
    assert len(scene.asked) == 1 and scene.answered == []


def crowded(*topics: str) -> tuple[Scene, Pipe]:
    """Topics with 1,000 users each, and a client that does not read."""
    scene = Scene()
    for topic in topics:
        scene.owners.create(topic, settings={"presence": "list"})
        for number in range(1_000):
            scene.owners.presence.elsewhere(topic, f"user-{number:05}" + "x" * 100, 1)
    return scene, scene.open()


def test_answers_to_a_client_that_does_not_read_stay_within_the_outbound_bound() -> None:
    scene, pipe = crowded("a")
    scene.admit(pipe, Caller("bob", service=True))
    scene.follow(pipe, "a")
    pipe.stuck = True
    for number in range(140):
        scene.say(pipe, type="presence", topic_id="a", id=number)
    scene.turn()
    assert pipe.highest <= scene.hub.limits.queue_bytes
    pipe.stuck = False
    pipe.drain()
    assert [frame["id"] for frame in pipe.frames("presence")] == [*range(140)]


def test_the_topics_of_a_query_wait_while_the_socket_is_full() -> None:
    topics = [f"t{number}" for number in range(20)]
    scene, pipe = crowded(*topics)
    assert pipe.session is not None
    scene.hub.pending.want(pipe.session, [(topic, Subscribe(topic, None, 1)) for topic in topics])
    pipe.stuck = True
    scene.admit(pipe, Caller("bob", service=True))
    scene.hub.begin(pipe.session, scene.moment)
    scene.pass_time(5)
    assert pipe.highest <= scene.hub.limits.queue_bytes and len(pipe.frames("subscribed")) < 5
    pipe.stuck = False
    while len(pipe.frames("subscribed")) < len(topics):
        before = pipe.writes
        pipe.drain()
        scene.pass_time(1)
        assert pipe.writes > before
    assert [frame["topic_id"] for frame in pipe.frames("presence")] == topics


@pytest.mark.parametrize("seconds", [1.25, 2.5])
@pytest.mark.parametrize("by", ["frames", "query"])
def test_what_grants_bring_to_a_client_that_hardly_reads_stays_within_the_outbound_bound(
    by: str, seconds: float
) -> None:
    topics = [f"t{number}" for number in range(20)]
    scene, pipe = crowded(*topics)
    pipe.stuck = True
    assert pipe.session is not None
    scene.owners.slow = True  # the owner answers in a later turn
    if by == "query":
        scene.hub.pending.want(pipe.session, [(topic, Subscribe(topic, None, 1)) for topic in topics])
    scene.admit(pipe, Caller("bob", service=True))
    scene.hub.begin(pipe.session, scene.moment)
    for topic in topics if by == "frames" else ():
        scene.say(pipe, type="subscribe", topic_id=topic)
    while len(pipe.frames("subscribed")) < len(topics):
        before = len(pipe.frames("subscribed"))
        scene.owners.deliver()
        pipe.session.hear(scene.now)
        scene.pass_time(seconds)  # the order of a query binds no longer, and it may last longer than `hold_s`
        pipe.drain()
        assert len(pipe.frames("subscribed")) > before and pipe.code is None
    assert pipe.frames("error") == []
    assert pipe.highest <= scene.hub.limits.queue_bytes, "R1"
