"""The members of a direct topic: its two users from its first record on, and nobody else ever.

Both are members, neither is an owner: nobody in it can put the other out, let a third in, or redact what he said.
"""

from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.topic_changes import USER_BYTES
from headgate.core.wire.control import MESSAGES_LOGIC, CreateTopic
from headgate.core.wire.direct_topics import check_creation
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.member_roles import Role


def missing_logic(shard: Shard, control: CreateTopic) -> int:
    """Returns the logic that a creation needs where the shard does not have it yet, else 0.

    Raises CorruptRecord for a direct topic that is none.
    """
    if shard.logic < MESSAGES_LOGIC:
        return 0 if control.peer_id is None else MESSAGES_LOGIC
    check_creation(control)
    for user_id in () if control.peer_id is None else (control.owner_id, control.peer_id):
        if not 1 <= len(user_id.encode("utf-8", "surrogatepass")) <= USER_BYTES:
            raise CorruptRecord(f"a user id has 1 to {USER_BYTES} bytes")
    return 0


def join_both(shard: Shard, key: bytes, row: Row, peer_id: str | None) -> None:
    """Makes the users of a direct topic that was just created its members; other topics begin with their creator."""
    if peer_id is not None:
        members = shard.members[key] = Members(row.epoch)
        for user_id in (row.owner_id, peer_id):
            members.put(user_id, Membership(Role.MEMBER, 0, 0, row.created_at))
