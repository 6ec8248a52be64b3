"""The permission table (docs/protocol.md, section 1), from roles and claims."""

from itertools import product
from typing import NamedTuple

import pytest

from headgate.core.wire import rights
from headgate.core.wire.control import Actor
from headgate.core.wire.errors import Refusal
from headgate.core.wire.member_roles import Right, Role
from headgate.core.wire.rights import Caller


class Topic(NamedTuple):
    topic_id: str
    permissions: str


OWNER, STRANGER = Caller("owner"), Caller("eve")
ADMIN = Caller("root", admin=True)
LISTED = Caller("svc", publish=("a*",), subscribe=("a*",))
ONLY_SUB = Caller("owner", subscribe=("abc",), only=True)


def role_of(caller: Caller) -> Role | None:
    return Role.OWNER if caller.user_id == "owner" else None


@pytest.mark.parametrize(
    ("permissions", "publish", "subscribe", "see"),
    [
        ("PUBLIC", True, True, True),
        ("PRIVATE", False, False, False),
        ("PUBLISH_ONLY", True, False, True),
        ("SUBSCRIBE_ONLY", False, True, True),
    ],
)
def test_what_anyone_may_do(permissions: str, publish: bool, subscribe: bool, see: bool) -> None:
    topic = Topic("abc", permissions)
    assert rights.may_publish(STRANGER, topic, role_of(STRANGER)) is publish
    assert rights.may_subscribe(STRANGER, topic, role_of(STRANGER)) is subscribe
    assert rights.may_see(STRANGER, topic, role_of(STRANGER)) is see
    assert not rights.may_administer(STRANGER, topic, role_of(STRANGER))


@pytest.mark.parametrize(("caller", "permissions"), list(product((OWNER, ADMIN, LISTED), rights.PERMISSIONS)))
def test_owner_admin_and_listed_publish_and_subscribe_everywhere(caller: Caller, permissions: str) -> None:
    topic = Topic("abc", permissions)
    assert rights.may_publish(caller, topic, role_of(caller))
    assert rights.may_subscribe(caller, topic, role_of(caller))
    assert rights.may_administer(caller, topic, role_of(caller)) is (caller is not LISTED)


@pytest.mark.parametrize("permissions", rights.PERMISSIONS)
def test_with_only_the_lists_are_all_even_for_the_owner(permissions: str) -> None:
    topic = Topic("abc", permissions)
    assert rights.may_subscribe(ONLY_SUB, topic, role_of(ONLY_SUB))
    assert not rights.may_publish(ONLY_SUB, topic, role_of(ONLY_SUB))
    assert not rights.may_administer(ONLY_SUB, topic, role_of(ONLY_SUB))
    assert not rights.may_subscribe(ONLY_SUB, Topic("abcd", permissions), role_of(ONLY_SUB))


@pytest.mark.parametrize("permissions", ["PUBLIC", "PUBLISH_ONLY", "SUBSCRIBE_ONLY"])
def test_inspecting_is_for_anyone_but_an_only_token_without_a_pattern(permissions: str) -> None:
    assert rights.may_inspect(STRANGER, Topic("x", permissions), role_of(STRANGER))
    assert rights.may_inspect(ONLY_SUB, Topic("abc", permissions), role_of(ONLY_SUB))
    assert rights.may_inspect(Caller("u", publish=("x*",), only=True), Topic("xy", permissions), None)
    assert not rights.may_inspect(ONLY_SUB, Topic("abcd", permissions), role_of(ONLY_SUB))


def test_creating_is_for_anyone_but_an_only_token_without_a_pattern() -> None:
    assert rights.may_create(STRANGER, "x")
    assert not rights.may_create(STRANGER, "hg:x") and not rights.may_create(STRANGER, "dm:x")
    assert not rights.may_create(ONLY_SUB, "abc")
    assert rights.may_create(Caller("u", publish=("x*",), only=True), "xy")


def test_an_inbox_names_all_topics_of_a_member_but_to_an_only_token_those_that_it_names() -> None:
    for caller in (OWNER, ADMIN, Caller("bob", subscribe=("abc",))):
        assert rights.may_be_told_of(caller, "xyz")
    assert rights.may_be_told_of(ONLY_SUB, "abc") and not rights.may_be_told_of(ONLY_SUB, "abcd")
    assert rights.may_be_told_of(Caller("bob", publish=("a*",), only=True), "abcd")


def test_a_private_topic_answers_a_stranger_like_one_that_is_not_there() -> None:
    with pytest.raises(Refusal) as hidden:
        rights.require(False, STRANGER, Topic("abc", "PRIVATE"), None, "publish to")
    assert (hidden.value.code, hidden.value.detail) == ("topic_not_found", rights.unknown_topic("abc").detail)
    with pytest.raises(Refusal, match="forbidden"):
        rights.require(False, STRANGER, Topic("abc", "SUBSCRIBE_ONLY"), None, "publish to")
    reader = Caller("r", subscribe=("abc",))
    with pytest.raises(Refusal, match="forbidden"):
        allowed = rights.may_publish(reader, Topic("abc", "PRIVATE"), None)
        rights.require(allowed, reader, Topic("abc", "PRIVATE"), None, "publish to")


def test_a_member_of_a_private_topic_without_the_right_is_forbidden_and_not_lost() -> None:
    topic = Topic("abc", "PRIVATE")
    with pytest.raises(Refusal, match="forbidden"):
        rights.require(False, STRANGER, topic, Role.PUBLISHER, "subscribe to")
    assert rights.may_see(STRANGER, topic, Role.PUBLISHER)
    assert not rights.may_see(Caller("eve", only=True), topic, Role.OWNER)


def test_an_actor_has_the_rights_of_his_token_and_no_role() -> None:
    assert rights.actor_of(STRANGER, "abc") == Actor("eve")
    assert rights.actor_of(ADMIN, "abc") == Actor("root", int(Right.ALL))
    assert rights.actor_of(LISTED, "abc") == Actor("svc", int(Right.PUBLISH | Right.SUBSCRIBE))
    assert rights.actor_of(LISTED, "xyz") == Actor("svc")
    assert rights.actor_of(ONLY_SUB, "abc") == Actor("owner", int(Right.SUBSCRIBE), only=True)
    assert rights.actor_of(Caller("root", admin=True, only=True), "abc") == Actor("root", only=True)


@pytest.mark.parametrize(
    ("pattern", "topic", "yes"),
    [("a", "a", True), ("a", "ab", False), ("a*", "ab", True), ("*", "x", True), ("a*b", "aXb", False)],
)
def test_patterns(pattern: str, topic: str, yes: bool) -> None:
    assert rights.matches((pattern,), topic) is yes
