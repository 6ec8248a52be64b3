"""Who follows a topic over all gateways: exact counts, bounded lists, gateways that come back and that do not."""

import random

import pytest

from headgate.core.sequencer import topic_presence as module
from headgate.core.sequencer.topic_presence import PresenceTopics, TopicPresence
from headgate.core.wire.link_presence import TopicUsers, UserPresence


def here(user: str, connections: int = 1, since: int = 0, *, away: bool = False) -> UserPresence:
    return UserPresence(user, connections, since, away)


def names(topic: TopicPresence[str]) -> list[str]:
    return [user.user_id for user in topic.listed()]


def say(topics: PresenceTopics[str], gateway: str, *users: UserPresence, topic: str = "t", epoch: int = 1) -> None:
    topics.take(gateway, TopicUsers(topic, epoch, list(users)))


def test_a_user_with_several_connections_counts_once() -> None:
    topic: TopicPresence[str] = TopicPresence(1, 10)
    topic.set("g1", here("ann", 2, 9))
    topic.set("g2", here("ann", 1, 5))
    topic.set("g2", here("bob", 1, 7))
    assert topic.count == 2 and topic.listed() == [here("ann", 3, 5), here("bob", 1, 7)]
    topic.set("g1", here("ann", 0))
    assert topic.listed() == [here("ann", 1, 5), here("bob", 1, 7)]
    topic.remove("g2", "ann")
    assert topic.count == 1 and "ann" not in topic and topic.users_on("g1") == [] and not topic.hosted_by("g1")


def test_a_user_is_away_when_he_is_on_all_gateways() -> None:
    topic: TopicPresence[str] = TopicPresence(1, 10)
    topic.set("g1", here("ann", away=True))
    assert topic.listed()[0].away
    topic.set("g2", here("ann"))
    assert not topic.listed()[0].away
    topic.set("g2", here("ann", away=True))
    assert topic.listed()[0].away


def test_what_a_gateway_says_is_absolute() -> None:
    topic: TopicPresence[str] = TopicPresence(1, 10)
    for _ in range(3):
        topic.set("g", here("ann", 2))
    assert topic.listed() == [here("ann", 2)]
    for _ in range(3):
        topic.set("g", here("ann", 0))
    assert topic.count == 0 and topic.listed() == []


def test_lists_are_cut_and_counts_are_not_and_a_free_place_goes_to_who_waits_longest() -> None:
    topic: TopicPresence[str] = TopicPresence(1, 3)
    for at, user in enumerate("abcdef"):
        topic.set("g", here(user, since=at))
    assert topic.count == 6 and names(topic) == ["a", "b", "c"]
    topic.begin_telling()
    topic.remove("g", "d")
    assert topic.count == 5 and topic.take_changes() == []
    topic.remove("g", "b")
    assert names(topic) == ["a", "c", "e"]
    assert [(change.user_id, change.now is None) for change in topic.take_changes()] == [("b", True), ("e", False)]


def test_a_new_owner_lists_those_who_are_there_longest_whatever_the_order_of_the_announcements() -> None:
    topic: TopicPresence[str] = TopicPresence(1, 3)
    topic.begin_telling()
    for since, user in [(9, "i"), (8, "h"), (7, "g"), (1, "a"), (2, "b"), (6, "f")]:
        topic.set("g", here(user, since=since))
    topic.take_changes()
    topic.list_oldest()
    assert sorted(names(topic)) == ["a", "b", "f"] and topic.count == 6
    assert {change.user_id: change.now is None for change in topic.take_changes()} == {
        "g": True, "h": True, "i": True, "a": False, "b": False, "f": False,
    }  # fmt: skip
    topic.list_oldest()
    assert sorted(names(topic)) == ["a", "b", "f"] and topic.take_changes() == []


def test_who_has_left_takes_no_place_among_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE", 10)
    topic: TopicPresence[str] = TopicPresence(1, 1)
    topic.set("g", here("first"))
    for n in range(1_000):
        topic.set("g", here(f"u{n}", since=n))
        topic.remove("g", f"u{n}")
    assert len(topic._waiting) <= 14


def test_nothing_is_kept_to_be_told_while_nobody_is_told() -> None:
    topic: TopicPresence[str] = TopicPresence(1, 10)
    topic.set("g", here("ann"))
    assert topic.take_changes() == []
    assert topic.begin_telling() == [here("ann")]
    topic.set("g", here("bob"))
    topic.end_telling()
    assert topic.take_changes() == []


def test_an_older_epoch_says_nothing_and_a_newer_one_begins_anew() -> None:
    topics: PresenceTopics[str] = PresenceTopics(10)
    say(topics, "g", here("ann"), epoch=2)
    assert topics.take("g", TopicUsers("t", 1, [here("bob")])) is None
    assert names(topics.open("t", 1)) == ["ann"]
    say(topics, "g", here("eve"), epoch=3)
    assert names(topics.open("t", 3)) == ["eve"]


def test_a_topic_without_users_is_forgotten_and_its_gateway_too() -> None:
    topics: PresenceTopics[str] = PresenceTopics(10)
    say(topics, "g", here("ann"))
    topics.refresh("t")
    assert topics.get("t") is not None
    say(topics, "g", here("ann", 0))
    topics.refresh("t")
    assert topics.get("t") is None and topics.all() == [] and topics._of_gateway == {}


def test_whole_forgets_the_others_of_this_gateway_in_the_topic() -> None:
    topics: PresenceTopics[str] = PresenceTopics(10)
    say(topics, "g", here("ann"), here("bob"))
    say(topics, "h", here("eve"))
    topics.take("g", TopicUsers("t", 1, [here("bob")], False, True))
    assert sorted(names(topics.open("t", 1))) == ["bob", "eve"]


def test_at_the_end_of_an_attach_who_was_not_announced_is_gone_and_nobody_else_moved() -> None:
    topics: PresenceTopics[str] = PresenceTopics(10)
    say(topics, "g", here("ann"), here("bob"))
    say(topics, "g", here("ann"), topic="u")
    say(topics, "h", here("bob"))
    topics.open("t", 1).begin_telling()
    topics.begin("g")
    say(topics, "g", here("ann"))
    assert list(topics.end("g")) == ["t", "u"]
    assert topics.open("t", 1).take_changes() == [] or names(topics.open("t", 1)) == ["ann", "bob"]
    assert topics.open("t", 1).listed() == [here("ann"), here("bob")] and topics.open("u", 1).count == 0


def test_a_gateway_that_comes_back_during_the_sweep_keeps_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEPT", 2)
    topics: PresenceTopics[str] = PresenceTopics(10)
    say(topics, "g", *(here(f"u{n}") for n in range(8)))
    topics.begin("g")
    sweep = topics.end("g")
    assert next(sweep) == "t" and topics.open("t", 1).count == 6
    say(topics, "g", here("u2"))  # it comes again while the sweep runs
    assert next(sweep) == "t" and "u2" in topics.open("t", 1)
    topics.begin("g")
    assert list(sweep) == [] and topics.open("t", 1).count == 5
    say(topics, "g", here("u7"))
    list(topics.end("g"))
    assert names(topics.open("t", 1)) == ["u7"]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_told_adds_up_to_what_is_so(seed: int) -> None:
    rng = random.Random(seed)
    topic: TopicPresence[str] = TopicPresence(1, 5)
    told = {user.user_id: user for user in topic.begin_telling()}
    truth: dict[tuple[str, str], int] = {}
    for _ in range(3_000):
        gateway, user = rng.choice("gh"), f"u{rng.randrange(12)}"
        truth[gateway, user] = rng.randrange(3)
        topic.set(gateway, here(user, truth[gateway, user], rng.randrange(9)))
        if rng.random() < 0.2:
            for change in topic.take_changes():
                if change.now is None:
                    told.pop(change.user_id, None)
                else:
                    told[change.user_id] = change.now
            users = {user for (_, user), count in truth.items() if count}
            assert topic.count == len(users) and len(topic.listed()) == min(5, len(users))
            assert told == {user.user_id: user for user in topic.listed()} and told.keys() <= users


def test_a_place_that_becomes_free_behind_very_many_who_left_costs_one_slice_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOKED_AT", 10)
    topic: TopicPresence[str] = TopicPresence(1, 1)
    for n in range(100):
        topic.set("g", here(f"u{n:03}", since=n))
    topic.begin_telling()
    for n in range(1, 99):
        topic.remove("g", f"u{n:03}")
    topic.remove("g", "u000")
    assert topic.count == 1 and topic.has_room
    turns = 0
    while topic.has_room:
        topic.take_changes()
        turns += 1
    assert names(topic) == ["u099"] and 5 < turns < 12
