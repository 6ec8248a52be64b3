"""Fields of requests for control operations: names, permissions, retention, roles, users."""

from typing import Final

from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.member_roles import Role
from headgate.core.wire.topic_settings import Settings
from headgate.runtime.token_claims import is_user_id

MAX_NAME: Final = 256


def check_name(name: object) -> str:
    """Returns a topic's name. Raises Refusal `bad_request`."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise Refusal("bad_request", f"name must be a string of 1 to {MAX_NAME} characters")
    return name


def check_permissions(permissions: object) -> str:
    """Returns a topic's permissions. Raises Refusal `bad_request`."""
    if not isinstance(permissions, str) or permissions not in rights.PERMISSIONS:
        raise Refusal("bad_request", f"permissions must be one of {', '.join(rights.PERMISSIONS)}")
    return permissions


def check_retention(settings: Settings, kept_ms: int) -> None:
    """Raises Refusal `bad_request` for a `retention_ms` above `kept_ms`: the log keeps messages no longer."""
    asked = settings.get("retention_ms")
    if asked is not None and asked > kept_ms:
        detail = f"settings.retention_ms must be at most {kept_ms}: so long the log keeps messages (log.retention_ms)"
        raise Refusal("bad_request", detail)


def check_role(role: object) -> Role:
    """Returns a member's role. Raises Refusal `bad_request`."""
    if not isinstance(role, str) or role not in tuple(Role):
        raise Refusal("bad_request", f"role must be one of {', '.join(Role)}")
    return Role(role)


def check_user_id(user_id: str) -> str:
    """Returns the id of a user. Raises Refusal `bad_request`."""
    if not is_user_id(user_id):
        raise Refusal("bad_request", "a user id is 1 to 128 bytes of printable UTF-8, and not 'kafka'")
    return user_id
