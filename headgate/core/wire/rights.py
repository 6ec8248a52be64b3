"""Who may do what with a topic (docs/protocol.md, section 1)."""

import re
from typing import Final, NamedTuple, Protocol

import msgspec

from headgate.core.wire.control import Actor
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import RESERVED_PREFIXES, TOPIC_ID
from headgate.core.wire.member_roles import ANYONE, Right, Role, has, rights_in

ANYBODY: Final = "anonymous"  # the user of open mode without a name: all who give none
PERMISSIONS: Final = tuple(ANYONE)
_PREFIX: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:-]{0,127})?\*")  # of a topic id; "*" alone is every topic


class Caller(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An authenticated user with the rights its token adds (or, with `only`, the whole of them).

    `publish` and `subscribe` hold patterns: a topic id, or a prefix that ends in `*`.
    """

    user_id: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    admin: bool = False
    only: bool = False
    service: bool = False


class Identity(NamedTuple):
    """Who asks. `expires_at` is the Unix second after which the token is refused, None for never.

    `token_hash` names the token without showing it; empty without a token. `issued_ms` is when the token was issued in
    Unix milliseconds, 0 where it does not say; `jti` its id, "" where it has none: both decide whether it is revoked.
    `topics` are the only ones that may be followed with it, None for all that the caller may.
    """

    caller: Caller
    expires_at: float | None = None
    token_hash: bytes = b""
    issued_ms: int = 0
    jti: str = ""
    topics: frozenset[str] | None = None

    def may_follow(self, topic_id: str) -> bool:
        """Returns whether its ticket names the topic; with a token it may follow whatever the owner grants."""
        return self.topics is None or topic_id in self.topics


class Guarded(Protocol):
    """The fields of a topic that access checks need."""

    @property
    def topic_id(self) -> str: ...
    @property
    def permissions(self) -> str: ...


def is_pattern(text: str) -> bool:
    """Says whether a text is a topic id, or the beginning of one and `*`: at most 129 characters, all of them ASCII."""
    return TOPIC_ID.fullmatch(text) is not None or _PREFIX.fullmatch(text) is not None


def matches(patterns: tuple[str, ...], topic_id: str) -> bool:
    """Says whether one of the patterns names the topic."""
    for pattern in patterns:
        if pattern == topic_id or (pattern.endswith("*") and topic_id.startswith(pattern[:-1])):
            return True
    return False


_GIVEN: Final[dict[tuple[bool, bool], Right]] = {  # by whether the token lets the caller publish, and subscribe
    (False, False): Right.NONE,
    (True, False): Right.PUBLISH,
    (False, True): Right.SUBSCRIBE,
    (True, True): Right.PUBLISH | Right.SUBSCRIBE,
}


def given_by_token(caller: Caller, topic_id: str) -> Right:
    """Returns the rights in a topic that the caller's token gives, whatever the topic's mode and members."""
    if caller.admin and not caller.only:
        return Right.ALL
    return _GIVEN[matches(caller.publish, topic_id), matches(caller.subscribe, topic_id)]


def actor_of(caller: Caller, topic_id: str) -> Actor:
    """Returns the caller as a control record names him."""
    return Actor(caller.user_id, int(given_by_token(caller, topic_id)), caller.only)


def rights_of(caller: Caller, topic: Guarded, role: Role | None) -> Right:
    """Returns all that a caller with this role may do in a topic."""
    return rights_in(topic.permissions, role, given_by_token(caller, topic.topic_id), only=caller.only)


def may_publish(caller: Caller, topic: Guarded, role: Role | None) -> bool:
    """Returns whether the caller may publish."""
    return has(rights_of(caller, topic, role), Right.PUBLISH)


def may_subscribe(caller: Caller, topic: Guarded, role: Role | None) -> bool:
    """Returns whether the caller may subscribe, read history and resume."""
    return has(rights_of(caller, topic, role), Right.SUBSCRIBE)


def may_administer(caller: Caller, topic: Guarded, role: Role | None) -> bool:
    """Returns whether the caller may change or delete the topic and its members."""
    return has(rights_of(caller, topic, role), Right.ADMINISTER)


def may_see(caller: Caller, topic: Guarded, role: Role | None) -> bool:
    """Returns whether the topic exists as far as this caller is concerned: a PRIVATE one for its members only.

    A token that names a use of the topic counts like a membership.
    """
    return topic.permissions != "PRIVATE" or rights_of(caller, topic, role) is not Right.NONE


def may_know_presence(caller: Caller, topic: Guarded, role: Role | None) -> bool:
    """Returns whether the caller may know who follows a topic: anyone of a PUBLIC one, any member of another.

    A token that names a use of the topic counts like a membership, and with `only` it must.
    """
    if topic.permissions == "PUBLIC" and not caller.only:
        return True
    is_member = role is not None and not caller.only
    return is_member or given_by_token(caller, topic.topic_id) is not Right.NONE


def may_inspect(caller: Caller, topic: Guarded, role: Role | None) -> bool:
    """Returns whether the caller may read a topic's description; with `only` the token must name a use of it."""
    return not caller.only or rights_of(caller, topic, role) is not Right.NONE


def may_be_told_of(caller: Caller, topic_id: str) -> bool:
    """Returns whether the caller's inbox may name a topic of which he is a member, and his connections one he follows.

    With `only` the token must name a use of it.
    """
    return not caller.only or given_by_token(caller, topic_id) is not Right.NONE


def may_create(caller: Caller, topic_id: str) -> bool:
    """Says whether the caller may create a topic of this id; nobody one of ours."""
    return not topic_id.startswith(RESERVED_PREFIXES) and may_talk(caller, topic_id)


def may_talk(caller: Caller, topic_id: str) -> bool:
    """Says whether the caller's token lets him have a topic of this id: his own direct topics too."""
    return not caller.only or matches(caller.publish, topic_id)


def require(allowed: bool, caller: Caller, topic: Guarded, role: Role | None, action: str) -> None:
    """Raises Refusal `topic_not_found` for a topic that the caller cannot see, `forbidden` if not `allowed`."""
    if not may_see(caller, topic, role):
        raise unknown_topic(topic.topic_id)
    if not allowed:
        raise Refusal("forbidden", f"{caller.user_id} may not {action} topic {topic.topic_id}")


def unknown_topic(topic_id: str) -> Refusal:
    """Returns the refusal for a topic that does not exist, or not for this caller."""
    return Refusal("topic_not_found", f"there is no topic {topic_id}")
