"""What waits for an owner is asked again, goes on without it, or is refused: on values, with what was called."""

from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.fanout.owner_waits import OwnerWaits, WaitActions
from headgate.core.fanout.pending import PendingSubscribes
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.query_turns import PATIENCE_S
from headgate.core.fanout.renewals import Renewals
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Scene


class Waiting:
    def __init__(self) -> None:
        self.scene = Scene()
        self.pending = PendingSubscribes(Limits(hold_s=10), lambda shard, leave: None)
        self.asked: list[str] = []
        self.denied: list[tuple[str, str, bool]] = []
        self.went_on: list[Session] = []
        renewals = Renewals(self.scene.owners, lambda subscription, answer: None)
        do = WaitActions(lambda each: self.asked.append(each.topic_id), self._deny, self.went_on.append)
        self.waits = OwnerWaits(self.scene.owners, self.pending, renewals, do)

    def _deny(self, pending: PendingSubscribe, refusal: Refusal) -> None:
        self.denied.append((pending.topic_id, refusal.code, refusal.retryable))

    def session(self) -> Session:
        found = self.scene.open().session
        assert found is not None
        found.identify(Identity(Caller("bob")), self.scene.moment)
        return found

    def held(self, session: Session, topic_id: str, shard: int | None) -> PendingSubscribe:
        made = self.pending.ask(session, Subscribe(topic_id, None, 0), None, 0.0)
        assert made is not None
        if shard is not None:
            made.place(shard)
        self.pending.hold(made)
        return made


def test_what_is_held_for_a_shard_is_asked_again_and_what_ended_meanwhile_is_not() -> None:
    waiting = Waiting()
    who = waiting.session()
    waiting.held(who, "a", 1)
    waiting.held(who, "b", 2)
    waiting.held(who, "c", 1)
    waiting.waits._do = waiting.waits._do._replace(ask=lambda each: waiting.pending.drop(each.session))
    waiting.waits.resend(1)
    assert waiting.asked == [] and waiting.pending.waiting() == [], "the first ended all of its session"


def test_only_shards_with_a_linked_owner_and_those_that_are_not_known_are_asked_again() -> None:
    waiting = Waiting()
    who = waiting.session()
    waiting.held(who, "a", 1)
    waiting.held(who, "b", None)
    waiting.scene.owners.up = False
    waiting.waits.look(1.0)
    assert waiting.asked == ["b"] and waiting.pending.waiting() == [1]
    waiting.scene.owners.up = True
    waiting.waits.look(2.0)
    assert waiting.asked == ["b", "a"] and waiting.denied == []


def test_a_subscribe_that_waited_too_long_is_refused_and_its_query_goes_on() -> None:
    waiting = Waiting()
    who = waiting.session()
    waiting.held(who, "a", 1)
    waiting.scene.owners.up = False
    waiting.waits.look(9.9)
    assert waiting.denied == []
    waiting.waits.look(10.0)
    assert waiting.denied == [("a", "not_ready", True)] and waiting.went_on == [who]


def test_an_owner_that_does_not_answer_holds_up_no_other_topic_of_a_query() -> None:
    waiting = Waiting()
    who = waiting.session()
    waiting.pending.want(who, [(topic, Subscribe(topic, None, 0)) for topic in "ab"])
    assert waiting.pending.begin(who, 0.0) is None and waiting.pending.next(who, 0.0) is not None
    waiting.waits.look(PATIENCE_S - 0.1)
    assert waiting.went_on == []
    waiting.waits.look(PATIENCE_S)
    assert waiting.went_on == [who]
