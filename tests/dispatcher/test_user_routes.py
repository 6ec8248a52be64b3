"""The owner of a user's shard knows where the user is, and asks there."""

from random import Random
from typing import Any

import pytest

from dispatcher import user_routes
from dispatcher.announcements import Announcements
from dispatcher.shard import Destination
from dispatcher.user_questions import UserQuestions
from dispatcher.user_routes import UserRoutes
from headgate.core.wire.link import Refused
from headgate.core.wire.link_users import (
    AskConnections,
    AttachUsers,
    ConnectedTopic,
    Connection,
    ConnectionsAnswer,
    EndSubscriptions,
    SubscriptionsEnded,
    UserRoute,
    UsersChanged,
    UsersElsewhere,
)
from tests.dispatcher.members_bed import Far


class Shard:
    """The routes of a shard and its gateways, who have announced nothing yet."""

    def __init__(self, gateways: int) -> None:
        self.gateways = [Far() for _ in range(gateways)]
        self.questions = UserQuestions()
        self.routes = UserRoutes(self.questions, Announcements[Destination](self.gateways))
        self.ingest = Far()

    def attach(self, at: int, **users: int) -> None:
        self.routes.handle(self.gateways[at], AttachUsers(0, True, True, routes(users)))

    def change(self, at: int, **users: int) -> None:
        self.routes.handle(self.gateways[at], UsersChanged(0, routes(users)))

    def answer(self, at: int, answer: SubscriptionsEnded | ConnectionsAnswer) -> None:
        self.questions.answered(self.gateways[at], answer)


def routes(users: dict[str, int]) -> list[UserRoute]:
    return [UserRoute(user, count) for user, count in users.items()]


def announced(gateways: int) -> Shard:
    shard = Shard(gateways)
    for at in range(gateways):
        shard.attach(at)
    return shard


def connection(name: str, at: int, topics: int = 0) -> Connection:
    followed = [ConnectedTopic(f"{name}:{n}", f"t{n}", at) for n in range(topics)]
    return Connection(name, "ann", "default", at, at, "g", "sse", followed)


async def test_only_gateways_that_have_the_user_are_asked() -> None:
    shard = announced(3)
    shard.change(0, ann=1, eve=1)
    shard.change(1, eve=1)
    shard.change(2, ann=2)
    for gateway in shard.gateways:
        gateway.sent.clear()
    shard.routes.handle(shard.ingest, EndSubscriptions(40, "ann", "a", "c"))
    assert [gateway.sent for gateway in shard.gateways] == [
        [EndSubscriptions(1, "ann", "a", "c")], [], [EndSubscriptions(1, "ann", "a", "c")],
    ]  # fmt: skip
    shard.answer(0, SubscriptionsEnded(1, 2))
    assert shard.ingest.sent == []
    shard.answer(2, SubscriptionsEnded(1, 3))
    assert shard.ingest.sent == [SubscriptionsEnded(40, 5)]


async def test_who_is_nowhere_is_answered_at_once() -> None:
    shard = announced(2)
    shard.routes.handle(shard.ingest, EndSubscriptions(1, "ann", "a"))
    shard.routes.handle(shard.ingest, AskConnections(2, "ann"))
    assert shard.ingest.sent == [SubscriptionsEnded(1, 0), ConnectionsAnswer(2, [])]


async def test_connections_of_all_gateways_are_one_list_the_oldest_first() -> None:
    shard = announced(2)
    shard.change(0, ann=2)
    shard.change(1, ann=1)
    shard.routes.handle(shard.ingest, AskConnections(8, "ann"))
    shard.answer(0, ConnectionsAnswer(1, [connection("x", 5), connection("y", 20)]))
    shard.answer(1, ConnectionsAnswer(1, [connection("z", 10)]))
    assert shard.ingest.sent == [
        ConnectionsAnswer(8, [connection("x", 5), connection("z", 10), connection("y", 20)]),
    ]


@pytest.mark.parametrize("fault", ["leaves", "cut"])
async def test_a_list_that_is_not_whole_says_so(fault: str) -> None:
    shard = announced(2)
    shard.change(0, ann=1)
    shard.change(1, ann=1)
    shard.routes.handle(shard.ingest, AskConnections(8, "ann"))
    shard.answer(0, ConnectionsAnswer(1, [connection("x", 5)]))
    if fault == "leaves":
        shard.questions.left(shard.gateways[1])
        shard.routes.left(shard.gateways[1])
    else:
        shard.answer(1, ConnectionsAnswer(1, [], complete=False))
    assert shard.ingest.sent == [ConnectionsAnswer(8, [connection("x", 5)], complete=False)]


async def test_a_list_of_several_gateways_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_routes, "CONNECTIONS", 3)
    monkeypatch.setattr(user_routes, "SUBSCRIPTIONS", 5)
    shard = announced(2)
    shard.change(0, ann=1)
    shard.change(1, ann=1)
    for req, topics, listed in ((1, 0, 3), (2, 2, 2)):
        shard.routes.handle(shard.ingest, AskConnections(8, "ann"))
        for at in range(2):
            found = [connection(f"{at}{n}", n, topics) for n in range(2)]
            shard.answer(at, ConnectionsAnswer(req, found))
        answer: Any = shard.ingest.sent.pop()
        assert (len(answer.connections), answer.complete) == (listed, False)


async def test_a_new_owner_waits_for_the_announcements_before_it_answers() -> None:
    shard = Shard(2)
    shard.routes.handle(shard.ingest, EndSubscriptions(1, "ann", "a"))
    shard.attach(0)
    assert shard.ingest.sent == []
    gateway = shard.gateways[1]
    shard.routes.handle(gateway, AttachUsers(0, True, False, [UserRoute("eve", 1)]))
    shard.routes.handle(gateway, AttachUsers(0, False, True, [UserRoute("ann", 1)]))
    assert gateway.sent == [EndSubscriptions(1, "ann", "a")]
    shard.answer(1, SubscriptionsEnded(1, 4))
    assert shard.ingest.sent == [SubscriptionsEnded(1, 4)]


async def test_a_gateway_that_announces_again_replaces_what_it_announced() -> None:
    shard = announced(1)
    shard.change(0, ann=3, eve=1)
    assert (shard.routes.connections("ann"), shard.routes.connections("eve")) == (3, 1)
    shard.change(0, ann=2)
    shard.attach(0, eve=5)
    assert (shard.routes.connections("ann"), shard.routes.connections("eve")) == (0, 5)
    shard.change(0, eve=0)
    assert shard.routes.connections("eve") == 0
    shard.change(0, ann=1)
    shard.routes.left(shard.gateways[0])
    assert shard.routes.connections("ann") == 0


async def test_news_of_more_connections_are_answered_with_those_elsewhere() -> None:
    shard = announced(3)
    one, two, three = shard.gateways
    shard.change(0, ann=4, eve=1)
    assert one.sent == [], "she is nowhere else"
    shard.change(1, ann=1, joe=1)
    assert two.sent == [UsersElsewhere([UserRoute("ann", 4)])] and one.sent == []
    shard.change(1, ann=0)
    shard.change(0, ann=3)
    assert len(two.sent) == 1 and one.sent == [], "fewer: nobody asks"
    shard.attach(2, ann=7)
    assert three.sent == [UsersElsewhere([UserRoute("ann", 3)])]


async def test_too_many_that_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.announcements.HELD", 1)
    shard = Shard(1)
    shard.routes.handle(shard.ingest, AskConnections(1, "ann"))
    shard.routes.handle(shard.ingest, AskConnections(2, "ann"))
    (refused,) = shard.ingest.sent
    assert isinstance(refused, Refused) and (refused.req, refused.code) == (2, "not_ready")
    shard.routes.close()


async def test_a_closed_link_is_not_served() -> None:
    shard = announced(1)
    shard.ingest.open = False
    shard.routes.handle(shard.ingest, AskConnections(1, "ann"))
    assert shard.ingest.sent == []


async def test_what_is_known_of_a_user_is_what_the_gateways_have_said_last() -> None:
    draw, shard = Random(7), announced(4)
    said: list[dict[str, int]] = [{} for _ in shard.gateways]
    for _ in range(2_000):
        at, name, count = draw.randrange(4), f"u{draw.randrange(6)}", draw.randrange(3)
        if draw.random() < 0.02:
            said[at] = {}
            shard.routes.left(shard.gateways[at])
        elif draw.random() < 0.05:
            said[at] = {name: 1}
            shard.attach(at, **{name: 1})
        else:
            said[at] = {user: n for user, n in (said[at] | {name: count}).items() if n}
            shard.change(at, **{name: count})
        where = [gateway for gateway, users in zip(shard.gateways, said, strict=True) if name in users]
        assert set(shard.routes.gateways_of(name)) == set(where)
        assert len(shard.routes.gateways_of(name)) == len(where)
        assert shard.routes.connections(name) == sum(users.get(name, 0) for users in said)
        assert shard.routes.is_connected(name) == bool(where)
        assert set(shard.routes.users()) == {user for users in said for user in users}
        assert shard.routes.connected == len({user for users in said for user in users})
