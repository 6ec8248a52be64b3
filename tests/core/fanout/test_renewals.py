"""`refresh` takes rights as well as time: every live subscription is authorised again (docs/protocol.md, section 3)."""

import pytest

from headgate.core.wire import link_members
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Pipe, Scene

RIGHTS = {
    "all": Caller("bob", subscribe=("p*",)),
    "some": Caller("bob", subscribe=("p1",)),
    "none": Caller("bob"),
    "eve": Caller("eve", subscribe=("*",)),
}


class Tokens:
    """A token is a name of RIGHTS."""

    open = False

    def authenticate(self, token: str) -> Identity:
        return Identity(RIGHTS[token])


def followed(scene: Scene, *topics: str) -> Pipe:
    """A socket of bob's that follows private topics by a claim, and public ones."""
    for topic in topics:
        scene.owners.create(topic, permissions="PRIVATE" if topic.startswith("p") else "PUBLIC")
    scene.commands._tokens = Tokens()
    pipe = scene.open()
    assert pipe.session is not None
    scene.admit(pipe, RIGHTS["all"])
    for topic in topics:
        scene.follow(pipe, topic)
    assert len(pipe.frames("subscribed")) == len(topics)
    return pipe


def ended(pipe: Pipe) -> list[tuple[str, str]]:
    return [(frame["topic_id"], frame["reason"]) for frame in pipe.frames("unsubscribed")]


@pytest.mark.parametrize(
    ("token", "lost"),
    [("all", []), ("some", [("p2", "forbidden")]), ("none", [("p1", "forbidden"), ("p2", "forbidden")])],
)
def test_a_refresh_ends_what_the_new_token_may_not_follow(token: str, lost: list[tuple[str, str]]) -> None:
    scene = Scene()
    pipe = followed(scene, "p1", "p2", "q")
    scene.say(pipe, type="refresh", token=token, id=1)
    assert ended(pipe) == lost
    kinds = [frame["type"] for frame in pipe.frames()]
    assert kinds[4:] == ["refreshed"] + ["unsubscribed"] * len(lost), "the answer comes first"
    for topic in ("p1", "p2", "q"):
        scene.publish(topic, 1)
    scene.turn()
    heard = {frame["topic_id"] for frame in pipe.frames("message")}
    assert heard == {"p1", "p2", "q"} - {topic for topic, _ in lost}
    assert scene.owners.topics["p2"].count == (0 if lost else 1)


def test_a_refresh_for_somebody_else_changes_nothing() -> None:
    scene = Scene()
    pipe = followed(scene, "p1")
    scene.say(pipe, type="refresh", token="eve", id=1)
    (error,) = pipe.frames("error")
    assert (error["code"], error["id"]) == ("forbidden", 1)
    assert pipe.session is not None and pipe.session.caller == RIGHTS["all"]
    assert not [asked for asked in scene.owners.asked if isinstance(asked, link_members.Authorize)]


def test_what_an_owner_was_asked_with_old_rights_is_asked_again_when_granted() -> None:
    scene = Scene()
    pipe = followed(scene, "q")
    scene.owners.create("p1", permissions="PRIVATE")
    scene.owners.slow = True
    scene.follow(pipe, "p1")
    scene.say(pipe, type="refresh", token="none")
    while scene.owners._link:
        scene.owners.deliver(1)
    assert ended(pipe) == [("p1", "forbidden")]


def test_the_last_of_several_refreshes_decides_and_one_question_is_under_way() -> None:
    scene = Scene()
    pipe = followed(scene, "p1")
    scene.owners.slow = True
    for token in ("none", "none", "all"):
        scene.say(pipe, type="refresh", token=token)
    assert len([asked for asked in scene.owners.asked if isinstance(asked, link_members.Authorize)]) == 1
    while scene.owners._link:
        scene.owners.deliver(1)
    assert ended(pipe) == []
    scene.say(pipe, type="refresh", token="all")
    scene.say(pipe, type="refresh", token="none")
    while scene.owners._link:
        scene.owners.deliver(1)
    assert ended(pipe) == [("p1", "forbidden")]


@pytest.mark.parametrize("back", ["owner", "tick"])
def test_an_owner_that_is_away_is_asked_when_it_is_back(back: str) -> None:
    scene = Scene()
    pipe = followed(scene, "p1", "p2")
    scene.owners.up = False
    scene.say(pipe, type="refresh", token="some")
    scene.pass_time(2)
    assert ended(pipe) == [] and sum(len(waiting) for waiting in scene.hub.renewals._waiting.values()) == 2
    scene.owners.up = True
    if back == "owner":
        for shard in range(scene.owners.shards):
            scene.hub.on_owner(shard, True)
    else:
        scene.pass_time(1.5)
    assert ended(pipe) == [("p2", "forbidden")]
    assert not scene.hub.renewals._waiting and not scene.hub.renewals._asked


def test_what_ended_meanwhile_is_forgotten() -> None:
    scene = Scene()
    pipe = followed(scene, "p1", "p2")
    scene.owners.up = False
    scene.say(pipe, type="refresh", token="none")
    scene.say(pipe, type="unsubscribe", topic_id="p1")
    assert pipe.session is not None
    scene.hub.drop(pipe.session)
    asked = len(scene.owners.asked)
    scene.owners.up = True
    scene.pass_time(2)
    assert len(scene.owners.asked) == asked, "nobody asks for those who are gone"
    assert not scene.hub.renewals._waiting and not scene.hub.renewals._asked
