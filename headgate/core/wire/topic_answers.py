"""What an owner's description of a topic says about the caller who asked: his role, and whether he may subscribe."""

from headgate.core.wire import rights
from headgate.core.wire.control import MEMBERS_LOGIC
from headgate.core.wire.link import TopicAnswer
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller


def role_of(answer: TopicAnswer, user_id: str) -> Role | None:
    """Returns a user's role by the answer to a question of his: None for no member and for a role of a newer version.

    A dispatcher that knows no members tells no role: there a topic's creator is its owner, and has no other members.
    """
    if answer.logic < MEMBERS_LOGIC and user_id == answer.info.owner_id:
        return Role.OWNER
    try:
        return Role(answer.role) if answer.role else None
    except ValueError:
        return None


def require_subscribe(answer: TopicAnswer, caller: Caller) -> None:
    """Raises the Refusal that a subscribe of the caller would get."""
    role = role_of(answer, caller.user_id)
    rights.require(rights.may_subscribe(caller, answer.info, role), caller, answer.info, role, "subscribe to")
