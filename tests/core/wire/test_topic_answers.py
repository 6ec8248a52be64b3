"""What the description of a topic says about the caller: by the role and the logic that its owner told."""

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicAnswer, TopicInfo
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller
from headgate.core.wire.topic_answers import require_subscribe, role_of


def info(permissions: str = "PRIVATE") -> TopicInfo:
    return TopicInfo("t", 1, 0, "t", permissions, "ana", 0, 0, 1, "direct", {})


def test_a_role_that_no_code_here_knows_gives_nothing() -> None:
    assert role_of(TopicAnswer(1, info(), "emperor", 2), "bo") is None
    assert role_of(TopicAnswer(1, info(), "admin", 2), "bo") is Role.ADMIN
    assert role_of(TopicAnswer(1, info(), "", 2), "ana") is None, "the creator has left"


def test_an_older_dispatcher_tells_no_roles_and_the_creator_is_the_owner() -> None:
    assert role_of(TopicAnswer(1, info()), "ana") is Role.OWNER
    assert role_of(TopicAnswer(1, info()), "bo") is None


@pytest.mark.parametrize(
    ("permissions", "role", "caller", "code"),
    [
        ("PUBLIC", "", Caller("bo"), None),
        ("PRIVATE", "member", Caller("bo"), None),
        ("PRIVATE", "", Caller("bo", subscribe=("t",)), None),
        ("PRIVATE", "publisher", Caller("bo"), "forbidden"),
        ("PUBLISH_ONLY", "", Caller("bo"), "forbidden"),
        ("PUBLIC", "member", Caller("bo", only=True), "forbidden"),
        ("PRIVATE", "member", Caller("bo", only=True), "topic_not_found"),
    ],
)
def test_who_may_subscribe(permissions: str, role: str, caller: Caller, code: str | None) -> None:
    answer = TopicAnswer(1, info(permissions), role, 2)
    if code is None:
        require_subscribe(answer, caller)
        return
    with pytest.raises(Refusal) as refused:
        require_subscribe(answer, caller)
    assert refused.value.code == code
