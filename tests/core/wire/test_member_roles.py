"""Who may change whose role: the table of docs/protocol.md section 1, every row by name."""

from itertools import product

import pytest

from headgate.core.wire.member_roles import ANYONE, ROLE_RIGHTS, Grant, Right, Role, may_change, rights_in

OTHERS = (None, *Role)


@pytest.mark.parametrize(
    ("permissions", "publish", "subscribe"),
    [("PUBLIC", True, True), ("PRIVATE", False, False), ("PUBLISH_ONLY", True, False), ("SUBSCRIBE_ONLY", False, True)],
)
def test_a_stranger_may_what_the_mode_lets_anyone_do(permissions: str, publish: bool, subscribe: bool) -> None:
    rights = rights_in(permissions, None)
    assert (bool(rights & Right.PUBLISH), bool(rights & Right.SUBSCRIBE)) == (publish, subscribe)
    assert not rights & (Right.ADMINISTER | Right.OWN)


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role.OWNER, Right.ALL),
        (Role.ADMIN, Right.PUBLISH | Right.SUBSCRIBE | Right.ADMINISTER),
        (Role.MEMBER, Right.PUBLISH | Right.SUBSCRIBE),
        (Role.PUBLISHER, Right.PUBLISH),
        (Role.SUBSCRIBER, Right.SUBSCRIBE),
    ],
)
def test_a_role_gives_its_rights_in_a_private_topic(role: Role, expected: Right) -> None:
    assert rights_in("PRIVATE", role) == expected


def test_a_token_that_says_only_has_no_right_of_mode_or_role() -> None:
    assert rights_in("PUBLIC", Role.OWNER, Right.SUBSCRIBE, only=True) == Right.SUBSCRIBE
    assert rights_in("PRIVATE", None, Right.PUBLISH) == Right.PUBLISH


def test_the_rights_of_a_token_add_to_those_of_mode_and_role() -> None:
    assert rights_in("PUBLISH_ONLY", Role.SUBSCRIBER, Right.ADMINISTER) == (
        Right.PUBLISH | Right.SUBSCRIBE | Right.ADMINISTER
    )


@pytest.mark.parametrize(("permissions", "new"), list(product(ANYONE, Role)))
def test_who_may_subscribe_joins_in_a_role_that_gives_no_new_right_and_nobody_else_joins(
    permissions: str, new: Role
) -> None:
    rights = rights_in(permissions, None)
    no_new_right = ROLE_RIGHTS[new] | rights == rights
    grant = may_change(rights, own=True, old=None, new=new, owners=1)
    assert (grant is Grant.ALLOWED) is (no_new_right and bool(rights & Right.SUBSCRIBE))
    assert not (new in (Role.OWNER, Role.ADMIN) and grant is Grant.ALLOWED)
    before = may_change(rights, own=True, old=None, new=new, owners=1, join_needs_subscribe=False)
    assert (before is Grant.ALLOWED) is no_new_right


@pytest.mark.parametrize(("old", "new"), list(product(Role, Role)))
def test_a_member_may_take_a_role_that_gives_no_new_right(old: Role, new: Role) -> None:
    grant = may_change(ROLE_RIGHTS[old], own=True, old=old, new=new, owners=2)
    assert (grant is Grant.ALLOWED) is (ROLE_RIGHTS[new] & ~ROLE_RIGHTS[old] == Right.NONE)


@pytest.mark.parametrize("role", Role)
def test_anyone_may_leave_but_the_last_owner(role: Role) -> None:
    last = may_change(ROLE_RIGHTS[role], own=True, old=role, new=None, owners=1)
    assert last is (Grant.LAST_OWNER if role is Role.OWNER else Grant.ALLOWED)
    assert may_change(ROLE_RIGHTS[role], own=True, old=role, new=None, owners=2) is Grant.ALLOWED


@pytest.mark.parametrize(("old", "new"), list(product(OTHERS, OTHERS)))
def test_admins_change_everybody_but_owners(old: Role | None, new: Role | None) -> None:
    grant = may_change(ROLE_RIGHTS[Role.ADMIN], own=False, old=old, new=new, owners=2)
    assert grant is (Grant.FORBIDDEN if Role.OWNER in (old, new) else Grant.ALLOWED)


@pytest.mark.parametrize(("old", "new"), list(product(OTHERS, OTHERS)))
def test_owners_change_everybody(old: Role | None, new: Role | None) -> None:
    assert may_change(Right.ALL, own=False, old=old, new=new, owners=2) is Grant.ALLOWED


@pytest.mark.parametrize("role", [Role.MEMBER, Role.PUBLISHER, Role.SUBSCRIBER])
def test_who_is_no_admin_changes_nobody_else(role: Role) -> None:
    assert may_change(ROLE_RIGHTS[role], own=False, old=None, new=Role.SUBSCRIBER, owners=1) is Grant.FORBIDDEN
    assert may_change(ROLE_RIGHTS[role], own=False, old=Role.SUBSCRIBER, new=None, owners=1) is Grant.FORBIDDEN


def test_the_last_owner_is_not_demoted_by_anybody_but_may_stay() -> None:
    assert may_change(Right.ALL, own=False, old=Role.OWNER, new=Role.ADMIN, owners=1) is Grant.LAST_OWNER
    assert may_change(Right.ALL, own=True, old=Role.OWNER, new=Role.OWNER, owners=1) is Grant.ALLOWED


def test_forbidden_says_nothing_of_the_last_owner() -> None:
    assert may_change(Right.SUBSCRIBE, own=False, old=Role.OWNER, new=None, owners=1) is Grant.FORBIDDEN
