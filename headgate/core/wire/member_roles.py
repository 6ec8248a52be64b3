"""Roles and rights in a topic: what each role may do, and who may change whose role (docs/protocol.md, section 1)."""

import enum
from collections.abc import Mapping
from typing import Final


class Role(enum.StrEnum):
    """A member's role. The creator of a topic is its first owner."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    PUBLISHER = "publisher"
    SUBSCRIBER = "subscriber"


class Right(enum.IntFlag):
    """What somebody may do in a topic. The numbers are in control records: they never change their meaning."""

    NONE = 0
    PUBLISH = 1
    SUBSCRIBE = 2  # history, resume and reactions too
    ADMINISTER = 4  # members but owners, permissions, settings, others' messages, deletion
    OWN = 8  # owners too
    ALL = 15


ROLE_RIGHTS: Final[Mapping[Role, Right]] = {
    Role.OWNER: Right.ALL,
    Role.ADMIN: Right.PUBLISH | Right.SUBSCRIBE | Right.ADMINISTER,
    Role.MEMBER: Right.PUBLISH | Right.SUBSCRIBE,
    Role.PUBLISHER: Right.PUBLISH,
    Role.SUBSCRIBER: Right.SUBSCRIBE,
}
ANYONE: Final[Mapping[str, Right]] = {
    "PUBLIC": Right.PUBLISH | Right.SUBSCRIBE,
    "PRIVATE": Right.NONE,
    "PUBLISH_ONLY": Right.PUBLISH,
    "SUBSCRIBE_ONLY": Right.SUBSCRIBE,
}
# Rights are checked per publish, and `|` of two flags takes a microsecond: this table and `has` do without.
_RIGHTS: Final = tuple(map(Right, range(Right.ALL + 1)))


class Grant(enum.Enum):
    """Whether a change of a role may be made."""

    ALLOWED = enum.auto()
    FORBIDDEN = enum.auto()
    LAST_OWNER = enum.auto()  # nobody could administer the topic any longer


def rights_in(permissions: str, role: Role | None, given: Right = Right.NONE, *, only: bool = False) -> Right:
    """Returns all that somebody may do: `given` by a token, and unless the token says `only`, by mode and role."""
    if only:
        return given
    anyone, own = ANYONE.get(permissions, Right.NONE), ROLE_RIGHTS[role] if role is not None else Right.NONE
    return _RIGHTS[int.__or__(int.__or__(given, anyone), own)]


def has(rights: Right, right: Right) -> bool:
    """Returns whether `right` is one of `rights`."""
    return int.__and__(rights, right) != 0


def may_change(
    actor_rights: Right,
    *,
    own: bool,
    old: Role | None,
    new: Role | None,
    owners: int,
    join_needs_subscribe: bool = True,
) -> Grant:
    """Decides about a change of somebody's role from `old` to `new` (None: no member).

    `own` says that the actor changes his own role, `owners` counts the owners before the change. Anyone may leave;
    a member may take a role that gives no right that he does not have, and so may who is none and may subscribe
    (`join_needs_subscribe` is false before CHECKS_LOGIC: anyone then). Admins change everybody but owners.
    """
    if own:
        joins = old is None and new is not None
        allowed = new is None or ROLE_RIGHTS[new] & ~actor_rights == Right.NONE
        allowed = allowed and not (joins and join_needs_subscribe and not has(actor_rights, Right.SUBSCRIBE))
    else:
        needed = Right.OWN if Role.OWNER in (old, new) else Right.ADMINISTER
        allowed = bool(actor_rights & needed)
    if not allowed:
        return Grant.FORBIDDEN
    if old is Role.OWNER and new is not Role.OWNER and owners <= 1:
        return Grant.LAST_OWNER
    return Grant.ALLOWED
