"""Who may do what with a topic (PROTOCOL section 1); knows neither tokens nor how a caller proved who he is."""

import re
from typing import Final, NamedTuple, Protocol

import msgspec

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import RESERVED_PREFIXES, TOPIC_ID

PERMISSIONS: Final = ("PUBLIC", "PRIVATE", "PUBLISH_ONLY", "SUBSCRIBE_ONLY")
ANYONE_PUBLISHES: Final = frozenset({"PUBLIC", "PUBLISH_ONLY"})
_PREFIX: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:-]{0,127})?\*")  # of a topic id; "*" alone is every topic
ANYONE_SUBSCRIBES: Final = frozenset({"PUBLIC", "SUBSCRIBE_ONLY"})


class Caller(msgspec.Struct, frozen=True, array_like=True):
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
    """What of a topic decides about rights."""

    @property
    def topic_id(self) -> str: ...
    @property
    def permissions(self) -> str: ...
    @property
    def owner_id(self) -> str: ...


def is_pattern(text: str) -> bool:
    """Says whether a text is a topic id, or the beginning of one and `*`: at most 129 characters, all of them ASCII."""
    return TOPIC_ID.fullmatch(text) is not None or _PREFIX.fullmatch(text) is not None


def matches(patterns: tuple[str, ...], topic_id: str) -> bool:
    """Says whether one of the patterns names the topic."""
    return any(p == topic_id or (p.endswith("*") and topic_id.startswith(p[:-1])) for p in patterns)


def _is_owner(caller: Caller, topic: Guarded) -> bool:
    return not caller.only and (caller.admin or caller.user_id == topic.owner_id)


def may_publish(caller: Caller, topic: Guarded) -> bool:
    """Says whether the caller may publish."""
    if matches(caller.publish, topic.topic_id) or _is_owner(caller, topic):
        return True
    return not caller.only and topic.permissions in ANYONE_PUBLISHES


def may_subscribe(caller: Caller, topic: Guarded) -> bool:
    """Says whether the caller may subscribe, read history and resume."""
    if matches(caller.subscribe, topic.topic_id) or _is_owner(caller, topic):
        return True
    return not caller.only and topic.permissions in ANYONE_SUBSCRIBES


def may_administer(caller: Caller, topic: Guarded) -> bool:
    """Says whether the caller may change or delete the topic."""
    return _is_owner(caller, topic)


def may_see(caller: Caller, topic: Guarded) -> bool:
    """Says whether the topic exists as far as this caller is concerned."""
    if topic.permissions != "PRIVATE":
        return True
    return may_publish(caller, topic) or may_subscribe(caller, topic) or _is_owner(caller, topic)


def may_inspect(caller: Caller, topic: Guarded) -> bool:
    """Says whether the caller may read what a topic is; with `only` the token must name some use of it."""
    return not caller.only or may_publish(caller, topic) or may_subscribe(caller, topic)


def may_create(caller: Caller, topic_id: str) -> bool:
    """Says whether the caller may create a topic of this id; nobody one of ours."""
    return not topic_id.startswith(RESERVED_PREFIXES) and (not caller.only or matches(caller.publish, topic_id))


def require(allowed: bool, caller: Caller, topic: Guarded, action: str) -> None:
    """Raises Refusal `topic_not_found` for what the caller cannot see, `forbidden` for what it may not do."""
    if not may_see(caller, topic):
        raise unknown_topic(topic.topic_id)
    if not allowed:
        raise Refusal("forbidden", f"{caller.user_id} may not {action} topic {topic.topic_id}")


def unknown_topic(topic_id: str) -> Refusal:
    """Returns the refusal for a topic that does not exist, or not for this caller."""
    return Refusal("topic_not_found", f"there is no topic {topic_id}")
