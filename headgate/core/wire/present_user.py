"""A user who follows a topic, as clients see him (docs/protocol.md, sections 2 and 4)."""

from typing import Any

from headgate.core.wire.link_presence import UserPresence
from headgate.core.wire.timestamps import rfc3339


def present_user(user: UserPresence) -> dict[str, Any]:
    """Returns an item of `subscribers`."""
    return {
        "user_id": user.user_id,
        "connections": user.connections,
        "since": rfc3339(user.since),
        "state": state_of(away=user.away),
    }


def state_of(*, away: bool) -> str:
    """Returns the name of a user's state."""
    return "away" if away else "online"
