"""Link messages about members as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_members import (
    AskMember,
    AskMembers,
    AskMemberships,
    Authorize,
    Authorized,
    Fence,
    Member,
    MemberAnswer,
    MembersAnswer,
    MembershipsAnswer,
    TopicSettings,
    UserMembership,
)
from headgate.core.wire.rights import Caller

ANN = Caller("ann", publish=("a*",))
MEMBER = Member("bob", "member", 7, 1_700_000_000_000)


@pytest.mark.parametrize(
    "message",
    [
        Fence("t", 5, 1),
        Fence("t", 5, 2, "bob", True),
        TopicSettings("t", 5, {"on_slow": "drop_oldest"}),
        Authorize(1, "t", 5, ANN, True),
        Authorized(1, 2, True),
        AskMember(1, "t", ANN, "bob"),
        MemberAnswer(1, 5, MEMBER),
        MemberAnswer(1, 5, None),
        AskMembers(1, "t", ANN, "", 100),
        MembersAnswer(1, 5, 1, [MEMBER]),
        AskMemberships(1, "bob", "", 100),
        MembershipsAnswer(1, 1, [UserMembership("t", 5, "member", 7, 6, 1_700_000_000_000)]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_every_message_comes_back(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_a_question_of_version_1_is_read_as_one_of_a_caller_who_was_no_member() -> None:
    assert Authorize(1, "t", 5, ANN).member is False
    assert Authorized(1) == Authorized(1, 0, False)
