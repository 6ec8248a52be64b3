"""The topics of a query: asked for ahead, told in order, whatever their owners do meanwhile."""

import random
from typing import Any

import pytest

from headgate.core.client.inbound import subscribe_from_query
from headgate.core.fanout.pending import ASKED_AT_ONCE
from headgate.core.fanout.query_turns import AHEAD, PATIENCE_S
from headgate.core.wire import link
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.links.port import OnAnswer
from tests.core.scene import Pipe, Scene
from tests.owners_twin import SHARDS, Owners

TOPICS = [f"t{n}" for n in range(12)]


class FarOwners(Owners):
    """A link to the owner of each shard, slower or faster than the others: what it carries comes with `arrive`."""

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[int, list[tuple[Any, Any]]] = {shard: [] for shard in range(SHARDS)}
        self._from = 0

    def _ask(self, request: link.Request, on_answer: OnAnswer) -> None:
        self._from = self.shard_of(getattr(request, "topic_id"))  # noqa: B009 - not each request has one
        super()._ask(request, on_answer)

    def _push(self, message: link.Message) -> None:
        topic_id = getattr(message, "topic_id", "")
        before, self._from = self._from, self.shard_of(topic_id) if topic_id else getattr(message, "shard", 0)
        super()._push(message)
        self._from = before

    def _out(self, handler: Any, message: Any) -> None:
        self.links[self._from].append((handler, message))

    def arrive(self, topic_id: str, count: int = 1) -> None:
        """The next messages of the link to a topic's owner arrive."""
        for _ in range(count):
            handler, message = self.links[self.shard_of(topic_id)].pop(0)
            handler(message)

    def arrive_all(self) -> None:
        while any(self.links.values()):
            for carried in self.links.values():
                if carried:
                    handler, message = carried.pop(0)
                    handler(message)

    def go(self) -> None:
        lost = [each for carried in self.links.values() for each in carried]
        self.links = {shard: [] for shard in range(SHARDS)}
        self.lose_owners()
        for handler, message in lost:
            if hasattr(message, "req"):
                handler(link.Refused(message.req, "not_ready", "the link was lost"))


class Query(Scene):
    kind_of_owners = FarOwners
    owners: FarOwners

    def __init__(self) -> None:
        super().__init__()
        for topic in TOPICS:
            self.owners.create(topic)

    def connect(self, *topics: str, **options: str) -> Pipe:
        pipe = self.open()
        assert pipe.session is not None
        wanted: list[Any] = []
        for topic in topics:
            try:
                wanted.append((topic, subscribe_from_query(topic, {"presence": "false", **options})))
            except Refusal as refusal:
                wanted.append((topic, refusal))
        self.hub.pending.want(pipe.session, wanted)
        assert self.admit(pipe, Caller("bob", service=True))
        self.hub.begin(pipe.session, self.moment)
        return pipe

    def asked(self) -> list[str]:
        return [each.topic_id for each in self.owners.asked if isinstance(each, link.AskSubscribe)]

    def hosted(self) -> dict[str, int]:
        return {topic.topic_id: topic.count for topic in self.owners.topics.values() if topic.count}


def told(pipe: Pipe) -> list[str]:
    """The topics of `subscribed` and `error`, in the order of the wire."""
    return [f["topic_id"] for f in pipe.frames() if f["type"] in ("subscribed", "error")]


def apart(scene: Query) -> tuple[str, str, str]:
    """Three topics of three owners."""
    by_shard = {scene.owners.shard_of(topic): topic for topic in TOPICS}
    first, second, third = list(by_shard.values())[:3]
    return first, second, third


def two_before_their_turn() -> tuple[Query, Pipe, tuple[str, str, str]]:
    """Three topics are asked for; the answers to the last two have come."""
    scene = Query()
    one, two, three = apart(scene)
    pipe = scene.connect(one, two, three)
    scene.owners.arrive(three)
    scene.owners.arrive(two)
    return scene, pipe, (one, two, three)


def test_many_are_asked_for_at_once_and_told_in_one_write_a_turn() -> None:
    scene = Query()
    more = [f"m{n}" for n in range(AHEAD)]
    for topic in more:
        scene.owners.create(topic)
    pipe = scene.connect(*TOPICS, *more)
    assert scene.asked() == [*TOPICS, *more][:AHEAD]
    writes = pipe.writes
    scene.owners.arrive_all()
    scene.turn()
    assert told(pipe) == [*TOPICS, *more] and pipe.writes == writes + 1
    assert scene.hub.pending.turns._queries == {} and scene.hub.pending.turns.kept == {}


def test_an_answer_before_its_turn_is_told_in_its_turn() -> None:
    scene, pipe, (one, two, three) = two_before_their_turn()
    scene.turn()
    assert told(pipe) == []
    scene.owners.arrive(one)
    scene.turn()
    assert told(pipe) == [one, two, three] and len(scene.asked()) == 3


def test_a_message_of_a_topic_that_waits_for_its_turn_is_not_lost() -> None:
    scene = Query()
    one, two, _ = apart(scene)
    pipe = scene.connect(one, two)
    scene.owners.publish(two, 1)
    scene.owners.publish(two, 2)
    scene.owners.arrive(two, 2)  # the grant, and the first of the messages
    assert scene.hosted() == {one: 1}, "the grant of the second was given back"
    scene.owners.arrive(one)
    scene.owners.publish(two, 3)
    scene.owners.arrive_all()
    scene.turn()
    assert told(pipe) == [one, two] and scene.hosted() == {one: 1, two: 1}
    assert pipe.frames("subscribed")[1]["seq"] == 2 and pipe.seqs() == [3]


def test_another_follower_of_the_topic_changes_nothing() -> None:
    scene = Query()
    one, two, _ = apart(scene)
    other = scene.connect(two)
    scene.owners.arrive_all()
    pipe = scene.connect(one, two)
    scene.owners.publish(two, 1)
    scene.owners.arrive(two, 2)
    assert other.session is not None
    scene.hub.lost(other.session)
    scene.owners.publish(two, 2)
    scene.owners.arrive_all()
    scene.turn()
    assert told(pipe) == [one, two] and scene.hosted() == {one: 1, two: 1}
    begin = pipe.frames("subscribed")[1]["seq"]
    scene.owners.publish(two, 3)
    scene.owners.arrive_all()
    scene.turn()
    assert pipe.seqs() == list(range(begin + 1, 4))


def test_the_owner_of_a_topic_that_waits_for_its_turn_is_lost() -> None:
    scene = Query()
    one, two, _ = apart(scene)
    pipe = scene.connect(one, two)
    scene.owners.arrive(two)
    scene.hub.on_owner(scene.owners.shard_of(two), False)
    scene.owners.topics[two].count = 0
    scene.hub.on_owner(scene.owners.shard_of(two), True)
    scene.owners.arrive(one)
    scene.owners.arrive_all()
    scene.turn()
    assert told(pipe) == [one, two] and scene.hosted() == {one: 1, two: 1}
    assert scene.asked() == [one, two, two]


@pytest.mark.parametrize("how", ["lost", "unsubscribe"])
def test_a_grant_whose_turn_does_not_come_is_given_back(how: str) -> None:
    scene = Query()
    one, two, _ = apart(scene)
    pipe = scene.connect(one, two)
    scene.owners.arrive(two)
    assert scene.hosted() == {one: 1, two: 1} and pipe.session is not None
    if how == "lost":
        scene.hub.lost(pipe.session)
    else:
        scene.say(pipe, type="unsubscribe", topic_id=two)
    assert scene.hosted() == {one: 1} and scene.hub.pending.turns.kept == {}
    scene.owners.arrive_all()
    assert scene.hosted() == ({} if how == "lost" else {one: 1})


def test_refusals_are_told_in_their_place() -> None:
    scene = Query()
    one, two, _ = apart(scene)
    pipe = scene.connect(one, "a b", "nobody", one, two)
    scene.owners.arrive_all()
    scene.turn()
    codes = [(f["topic_id"], f.get("code", "")) for f in pipe.frames() if f["type"] in ("subscribed", "error")]
    assert codes == [
        (one, ""),
        ("a b", "invalid_topic_id"),
        ("nobody", "topic_not_found"),
        (one, "already_subscribed"),
        (two, ""),
    ]


def test_a_repeated_topic_is_asked_for_again_where_the_first_was_refused() -> None:
    scene = Query()
    pipe = scene.connect("nobody", "nobody")
    scene.owners.arrive_all()
    assert [f["code"] for f in pipe.frames("error")] == ["topic_not_found", "topic_not_found"]


def test_one_that_is_late_holds_up_nobody_for_more_than_a_second() -> None:
    scene, pipe, (one, two, three) = two_before_their_turn()
    scene.pass_time(PATIENCE_S + 1.5)
    assert told(pipe) == [two, three]
    scene.owners.arrive(one)
    scene.turn()
    assert told(pipe) == [two, three, one] and scene.hosted() == {one: 1, two: 1, three: 1}


def test_what_is_left_of_a_query_that_is_late_is_asked_for_each_second() -> None:
    scene = Query()
    more = [f"m{n}" for n in range(40)]
    scene.connect(*more)
    assert scene.asked() == more[:AHEAD]
    scene.pass_time(PATIENCE_S + 0.25)
    assert scene.asked() == more[: AHEAD + ASKED_AT_ONCE]
    scene.pass_time(6 * PATIENCE_S)
    assert scene.asked() == more


def test_a_fault_at_one_topic_holds_up_the_others_for_no_more_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, pipe, (one, two, three) = two_before_their_turn()
    with monkeypatch.context() as planted, pytest.raises(ZeroDivisionError):
        planted.setattr(scene.hub.audience.presence, "begin", lambda *_: 1 // 0)
        scene.owners.arrive(one)
    assert told(pipe) == []
    scene.pass_time(PATIENCE_S + 1.5)
    assert told(pipe) == [two, three]


def test_while_the_socket_is_full_no_turn_comes() -> None:
    scene = Query()
    one, two, three = apart(scene)
    pipe = scene.connect(one, two, three)
    assert pipe.session is not None
    scene.owners.arrive(three)
    scene.owners.arrive(two)
    scene.hub.catchup.park(pipe.session, scene.now)
    scene.owners.arrive(one)
    scene.turn()
    assert told(pipe) == []
    scene.hub.resume(pipe.session, scene.moment)
    scene.turn()
    assert told(pipe) == [one, two, three]


def test_a_list_of_who_is_there_is_asked_for_in_its_turn() -> None:
    scene = Query()
    one, two, _ = apart(scene)
    scene.owners.topics[two].settings["presence"] = "list"
    pipe = scene.connect(one, two, presence="false")
    scene.owners.arrive(two)
    assert scene.hosted() == {one: 1} and scene.asked() == [one, two]
    scene.owners.arrive_all()
    scene.turn()
    assert told(pipe) == [one, two] and scene.asked() == [one, two, two] and scene.hosted() == {one: 1, two: 1}


@pytest.mark.parametrize("options", [{"from": "earliest"}, {"from": "cursor"}, {"presence": "true"}])
def test_what_may_be_large_or_change_is_asked_for_one_by_one(options: dict[str, str]) -> None:
    scene = Query()
    one, two, _ = apart(scene)
    scene.connect(one, two, **options)
    assert two not in scene.asked()


def test_what_is_held_for_the_end_of_the_turn_goes_before_messages() -> None:
    scene = Query()
    one, two, three = apart(scene)
    pipe = scene.connect(one, two, three)
    scene.owners.arrive(one)  # two more may come in this turn
    assert told(pipe) == []
    scene.owners.publish(one, 1)
    scene.owners.arrive(one)
    scene.owners.delete(one)
    scene.owners.arrive(one)  # writes all that the feed has, at once
    assert [f["type"] for f in pipe.frames()] == ["welcome", "subscribed", "message", "unsubscribed"]


OF_TOPICS = ["arrive"] * 6 + ["publish"] * 3 + ["another", "delete", "create"]
OF_ALL = ["turn", "owners_change", "pass_a_second"]


class Run(Query):
    """What may happen while a client's query is answered."""

    def arrive(self, topic: str) -> None:
        if self.owners.links[self.owners.shard_of(topic)]:
            self.owners.arrive(topic)

    def publish(self, topic: str, *payloads: Any) -> None:
        if topic in self.owners.topics:
            self.owners.publish(topic, *payloads or (1,))

    def delete(self, topic: str) -> None:
        if topic in self.owners.topics:
            self.owners.delete(topic)

    def create(self, topic: str) -> None:
        if topic not in self.owners.topics:
            self.owners.create(topic)

    def another(self, topic: str) -> None:
        self.connect(topic)

    def owners_change(self) -> None:
        for topic in self.owners.topics.values():
            topic.count = 0
        self.owners.go()
        self.owners.come()

    def pass_a_second(self) -> None:
        self.pass_time(1.0)

    def settle(self) -> None:
        self.owners.arrive_all()
        self.pass_time(3.0)
        self.owners.arrive_all()
        self.turn()


@pytest.mark.parametrize("calm", [True, False])
@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_meanwhile_each_topic_is_told_once_and_nothing_behind_it_is_lost(
    seed: int, calm: bool
) -> None:
    rng = random.Random(seed)
    run, wanted = Run(), [rng.choice([*TOPICS, "nobody", "a b"]) for _ in range(rng.randint(2, 14))]
    pipe = run.connect(*wanted)
    for _ in range(rng.randint(5, 60)):
        if calm or rng.random() < 0.9:
            getattr(run, rng.choice(OF_TOPICS))(rng.choice(TOPICS))
        else:
            getattr(run, rng.choice(OF_ALL))()
    run.settle()
    check_messages(pipe, run)
    for topic in run.owners.topics:
        run.publish(topic)
    run.settle()
    assert sorted(told(pipe)) == sorted(wanted)
    if calm:
        assert told(pipe) == wanted
    check_messages(pipe, run)
    assert run.hosted() == {feed.topic_id: feed.count for feed in run.hub.feeds.values()}
    assert run.hub.pending.turns.kept == {}


def check_messages(pipe: Pipe, run: Run) -> None:
    """Between `subscribed` and `unsubscribed` each message of a topic comes once, in order, up to the newest."""
    newest: dict[str, int] = {}
    for frame in pipe.frames():
        kind, topic = frame["type"], frame.get("topic_id", "")
        if kind == "subscribed":
            newest[topic] = frame["seq"]
        elif kind == "unsubscribed":
            del newest[topic]
        elif kind == "message":
            assert frame["seq"] == newest[topic] + 1
            newest[topic] += 1
    assert newest == {topic: run.owners.topics[topic].seq for topic in newest}
