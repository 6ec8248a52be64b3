"""Link messages about users as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_users import (
    AskConnections,
    AttachUsers,
    ConnectedTopic,
    Connection,
    ConnectionsAnswer,
    EndSubscriptions,
    Ingests,
    Redeem,
    Redeemed,
    Revocation,
    Revocations,
    SubscriptionsEnded,
    Throttle,
    Throttled,
    UserRoute,
    UsersChanged,
    UsersElsewhere,
)

CONNECTION = Connection("c1", "ann", "phone", 1, 2, "g1", "websocket", [ConnectedTopic("c1:1", "t", 3)])


@pytest.mark.parametrize(
    "message",
    [
        AttachUsers(3, True, False, [UserRoute("ann", 2)]),
        UsersChanged(3, [UserRoute("ann", 0)]),
        UsersElsewhere([UserRoute("ann", 21)]),
        EndSubscriptions(1, "ann", "t"),
        EndSubscriptions(1, "ann", "t", "c1"),
        SubscriptionsEnded(1, 2),
        AskConnections(1, "ann"),
        ConnectionsAnswer(1, [CONNECTION], False),
        Redeem(1, "ann", "ticket", 5, 6),
        Redeemed(1),
        Revocations([Revocation("ann", "", 7), Revocation("", "token", 8)]),
        Throttled([Throttle("t", 500)]),
        Ingests(3),
    ],
    ids=lambda message: type(message).__name__,
)
def test_every_message_comes_back(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]
