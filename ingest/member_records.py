"""What all changes of members and topics have in common: the condition before, the refusals of verdicts."""

from headgate.core.wire import rights
from headgate.core.wire.control import MEMBERS_LOGIC
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code, Verdict
from ingest.access import Access
from ingest.catalog import Known


def require_logic(known: Known) -> None:
    """Raises Refusal `not_ready` while an older dispatcher may have to read the record: it would not understand it."""
    if known.logic < MEMBERS_LOGIC:
        detail = "members and settings cannot be changed until every dispatcher of the cluster has been upgraded"
        raise Refusal("not_ready", detail)


async def refusal_of(verdict: Verdict, access: Access, caller: Caller, topic_id: str, action: str) -> Refusal:
    """Returns the refusal for a change that the topic's owner has not made."""
    if verdict.code == Code.LAST_OWNER:
        return Refusal("last_owner", f"topic {topic_id} would have no owner; make another member an owner first")
    if verdict.code == Code.FORBIDDEN:
        try:
            await access.ask(topic_id, caller, rights.may_see, action)
        except Refusal as refusal:
            return refusal
        return Refusal("forbidden", f"{caller.user_id} may not {action} topic {topic_id}")
    if verdict.code == Code.DEAD:
        return Refusal("internal", "the topic's owner could not read the record; it is among the dead letters")
    return rights.unknown_topic(topic_id)
