"""Whom a directory takes for the owner of a shard: the highest epoch it has ever seen, whatever became of its link."""

import asyncio

import pytest

from headgate.core.wire import link, link_hello
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_inbox import HintTopic, UserHint, UserHints, UserRead
from headgate.core.wire.link_users import (
    AskConnections,
    EndSubscriptions,
    Ingests,
    Revocation,
    Revocations,
    SubscriptionsEnded,
    Throttle,
    Throttled,
    UserRoute,
    UsersChanged,
    UsersElsewhere,
)
from headgate.core.wire.rights import Caller
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.memory_link import memory_link
from headgate.runtime.links.port import AnswerLost, Unanswered


class User:
    """Notes what the directory tells."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []
        self.pushed: list[link.Message] = []

    def on_push(self, shard_epoch: int, message: link.Message) -> None:
        self.pushed.append(message)

    def on_owner(self, shard: int, up: bool) -> None:
        self.told.append((shard, up))


class Node:
    """The far end of a link: a dispatcher that serves shard 0 under an epoch."""

    def __init__(self, directory: LinkDirectory, name: str, epoch: int, version: int = link.VERSION_HIGH) -> None:
        self.near, self.far = memory_link("client", name)
        self.heard: list[link.Message] = []
        self.far.deliver_to(self.heard.extend)
        directory.add(self.near)
        owner = link_hello.Owner(0, epoch, f"{name}:1", True)
        self.far.send(link_hello.Welcome(version, name, "c", 1, 4, [owner]))

    @property
    def refused(self) -> list[link.Message]:
        return [message for message in self.heard if isinstance(message, link_hello.Refuse)]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def make() -> tuple[LinkDirectory, User]:
    directory, user = LinkDirectory("gateway", "g"), User()
    directory.deliver_to(user)
    return directory, user


async def test_before_a_welcome_no_shard_is_known_and_messages_that_come_all_the_same_end_nothing() -> None:
    directory, user = make()
    near, far = memory_link("client", "d1")
    directory.add(near)
    for shard_of in (directory.shard_of, directory.shard_of_user):
        with pytest.raises(Refusal, match="no dispatcher has been reached yet"):
            shard_of("t")
    message = link.Messages("t", 7, 1, [1], [b"frame"])
    far.send(message)
    far.send(link_hello.Welcome(link.VERSION_HIGH, "d1", "c", 1, 1, [link_hello.Owner(0, 5, "d1:1", True)]))
    far.send(message)
    await settle()
    assert user.pushed == [message] and directory.shard_of("t") == directory.shard_of_user("t") == 0


async def test_a_dispatcher_that_owns_nothing_is_a_link_until_it_closes() -> None:
    directory, _ = make()
    assert not directory.has_links
    near, far = memory_link("client", "d1")
    directory.add(near)
    assert not directory.has_links, "before its welcome"
    far.send(link_hello.Welcome(link.VERSION_HIGH, "d1", "c", 1, 4, []))
    await settle()
    assert directory.has_links and not directory.linked(0)
    far.close("gone")
    await settle()
    assert not directory.has_links


async def test_an_owner_that_was_replaced_is_refused_also_when_its_successors_link_is_lost() -> None:
    """A zombie that links again while the owner is away would take ephemeral traffic and give verdicts."""
    directory, user = make()
    owner = Node(directory, "new", 20)
    await settle()
    assert user.told == [(0, True)]
    owner.far.close("cut")
    await settle()
    zombie = Node(directory, "old", 10)
    await settle()
    assert zombie.refused == [link_hello.Refuse(0, 20)]
    assert not directory.linked(0)
    assert user.told == [(0, True), (0, False)]
    topic = next(name for name in map(str, range(99)) if directory.shard_of(name) == 0)
    zombie.far.send(link.EphemeralMessages(topic, 1, [1], [b"{}"]))
    await settle()
    assert user.pushed == []


async def test_the_owner_itself_and_its_successor_are_taken_again() -> None:
    directory, _ = make()
    first = Node(directory, "one", 20)
    await settle()
    first.far.close("cut")
    await settle()
    again = Node(directory, "one", 20)
    await settle()
    assert directory.linked(0)
    later = Node(directory, "two", 21)
    await settle()
    assert again.refused == [link_hello.Refuse(0, 21)]
    assert later.refused == []


async def test_an_older_owner_beside_the_newest_is_refused() -> None:
    directory, _ = make()
    newest = Node(directory, "new", 20)
    older = Node(directory, "old", 19)
    await settle()
    assert (newest.refused, older.refused) == ([], [link_hello.Refuse(0, 20)])


async def test_a_shard_that_was_given_up_is_not_the_old_owners_again() -> None:
    directory, _ = make()
    newest = Node(directory, "new", 20)
    await settle()
    newest.far.send(link_hello.Owners([link_hello.Owner(0, 0, "new:1", True)]))
    await settle()
    assert not directory.linked(0)
    zombie = Node(directory, "old", 19)
    await settle()
    assert zombie.refused == [link_hello.Refuse(0, 20)]


async def test_a_request_whose_refusal_fails_keeps_no_other_from_its_own() -> None:
    directory, user = make()
    node = Node(directory, "d", 20)
    await settle()
    heard: list[link.Answer] = []

    def broken(answer: link.Answer) -> None:
        raise RuntimeError("planted")

    for on_answer in (broken, heard.append):
        directory.request(0, lambda req: link.AskTopic(req, "a", Caller("ann")), on_answer)
    node.far.close("gone")
    await settle()
    assert [answer.code for answer in heard if isinstance(answer, link.Refused)] == ["not_ready"]
    assert user.told == [(0, True), (0, False)]


async def test_what_is_asked_while_an_owner_is_replaced_does_not_go_to_the_old_one() -> None:
    """It may still answer, and the subscription would be one of routes that the new owner does not have."""
    directory, _ = make()
    old = Node(directory, "d1", 5)
    await settle()
    topic_id = named(directory, 0)
    answers: list[link.Answer] = []

    def ask() -> None:
        directory.request(0, lambda req: link.AskTopic(req, topic_id, Caller("bob")), answered)

    def answered(answer: link.Answer) -> None:
        answers.append(answer)
        if len(answers) == 1:
            ask()  # the next topic of a query

    ask()
    await settle()
    new = Node(directory, "d2", 6)
    await settle()
    assert [answer.code for answer in answers if isinstance(answer, link.Refused)] == ["not_ready", "not_ready"]
    for node, asked in ((old, 1), (new, 0)):
        assert len([message for message in node.heard if isinstance(message, link.AskTopic)]) == asked


def named(directory: LinkDirectory, shard: int) -> str:
    """The id of a topic or user of a shard."""
    return next(name for name in map(str, range(99)) if directory.shard_of(name) == shard)


@pytest.mark.parametrize("kind", [AskConnections, EndSubscriptions, UsersElsewhere])
async def test_what_the_owner_of_a_users_shard_sends_is_no_answer_to_a_question_of_ours(kind: type) -> None:
    directory, user = make()
    owner, other = Node(directory, "owner", 20), Node(directory, "other", 10)
    await settle()
    mine = named(directory, 0)
    answers: list[link.Answer] = []
    directory.request(0, lambda req: AskConnections(req, mine), answers.append)
    message: link.Message = AskConnections(1, mine)
    if kind is EndSubscriptions:
        message = EndSubscriptions(1, mine, "a")
    elif kind is UsersElsewhere:
        message = UsersElsewhere([UserRoute(mine, 1)])
    other.far.send(message)  # it was replaced
    await settle()
    assert user.pushed == []
    owner.far.send(message)
    await settle()
    assert user.pushed == [message] and answers == []
    owner.far.send(SubscriptionsEnded(1, 2))
    await settle()
    assert answers == [SubscriptionsEnded(1, 2)]


async def test_news_of_inboxes_are_taken_from_the_owner_of_the_users_shard() -> None:
    directory, user = make()
    owner, other = Node(directory, "owner", 20), Node(directory, "other", 10)
    await settle()
    mine = named(directory, 0)
    elsewhere = next(name for name in map(str, range(99)) if directory.shard_of(name) != 0)
    news: list[link.Message] = [
        UserRead(mine, elsewhere, 3, 1),
        UserHints([UserHint(mine, [HintTopic(elsewhere, 3, 1)])]),
    ]
    for message in (*news, UserHints([])):
        other.far.send(message)  # it was replaced
        owner.far.send(message)
    await settle()
    assert user.pushed == news


async def test_what_any_dispatcher_may_say_comes_from_every_one() -> None:
    directory, user = make()
    nodes = [Node(directory, "owner", 20), Node(directory, "other", 10)]
    await settle()
    for n, node in enumerate(nodes):
        node.far.send(Revocations([Revocation("ann", "", n)]))
    await settle()
    assert user.pushed == [Revocations([Revocation("ann", "", n)]) for n in range(2)]


async def test_an_owner_that_has_not_been_upgraded_is_spared_what_it_cannot_read() -> None:
    directory, _ = make()
    old = Node(directory, "old", 10, version=1)
    await settle()
    old.heard.clear()
    directory.send(0, UsersChanged(0, [UserRoute("ann", 1)]))
    answers: list[link.Answer] = []
    directory.request(0, lambda req: EndSubscriptions(req, "ann", "a"), answers.append)
    directory.send(0, link.Leave("a", 1))
    await settle()
    assert old.heard == [link.Leave("a", 1)]
    (refused,) = answers
    assert isinstance(refused, link.Refused) and refused.code == "not_ready"
    old.far.close("it is upgraded")
    new = Node(directory, "new", 11)
    await settle()
    directory.send(0, UsersChanged(0, [UserRoute("ann", 1)]))
    await settle()
    assert new.heard[-1] == UsersChanged(0, [UserRoute("ann", 1)])


@pytest.mark.parametrize("how", ["the link is lost", "it gives the shard up", "it is replaced"])
async def test_a_request_whose_owner_is_lost_may_have_been_carried_out(how: str) -> None:
    directory, _ = make()
    owner = Node(directory, "owner", 10)
    await settle()
    answers: list[link.Answer] = []
    directory.request(0, lambda req: EndSubscriptions(req, "ann", "a"), answers.append)
    asked = directory.ask(0, lambda req: EndSubscriptions(req, "ann", "a"))
    if how == "it is replaced":
        Node(directory, "other", 11)
    elif how == "it gives the shard up":
        owner.far.send(link_hello.Owners([link_hello.Owner(0, 0, "owner:1", True)]))
    else:
        owner.far.close("gone")
    await settle()
    (lost,) = answers
    assert isinstance(lost, Unanswered) and lost.code == "not_ready"
    with pytest.raises(AnswerLost, match="not_ready"):
        await asked


async def test_a_request_that_no_owner_gets_is_refused_and_nothing_else() -> None:
    directory, _ = make()
    near, _ = memory_link("client", "other")
    directory.add(near)
    await settle()
    directory.shards = 1
    answers: list[link.Answer] = []
    directory.request(0, lambda req: EndSubscriptions(req, "ann", "a"), answers.append)
    assert [type(answer) for answer in answers] == [link.Refused]


async def test_the_largest_of_the_dispatchers_counts_of_ingests_is_told() -> None:
    """A dispatcher that was just started has seen few of them."""
    directory, user = make()
    old, young = Node(directory, "old", 20), Node(directory, "young", 19)
    old.far.send(Ingests(4))
    young.far.send(Ingests(1))
    await settle()
    assert user.pushed == [Ingests(4), Ingests(4)]
    young.far.send(Ingests(3))
    old.far.close("gone")
    await settle()
    assert user.pushed[2:] == [Ingests(4), Ingests(3)]
    young.far.close("gone")
    await settle()
    assert user.pushed[4:] == [], "the last count holds"


async def test_only_the_owner_of_the_topics_can_have_them_refused() -> None:
    directory, user = make()
    owner, other = Node(directory, "new", 20), Node(directory, "other", 19)
    await settle()
    topic = next(name for name in map(str, range(99)) if directory.shard_of(name) == 0)
    throttled = Throttled([Throttle(topic, 1_000)])
    other.far.send(throttled)
    other.far.send(Throttled([]))
    await settle()
    assert user.pushed == []
    owner.far.send(throttled)
    await settle()
    assert user.pushed == [throttled]
