"""What records about members and settings do to a topic: who may is decided here, where the record is applied.

Between the check at ingest and the append a role can change; from the rows every node decides alike.
"""

from typing import Any, Final, NamedTuple

from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import (
    CHECKS_LOGIC,
    MESSAGES_LOGIC,
    Actor,
    DeleteTopic,
    RemoveMember,
    SetMember,
    UpdateTopic,
)
from headgate.core.wire.direct_topics import is_direct, is_fixed
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.member_roles import ANYONE, ROLE_RIGHTS, Grant, Right, Role, may_change, rights_in
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code, Verdict

USER_BYTES: Final = 128
_REFUSED: Final = frozenset({Code.FORBIDDEN, Code.LAST_OWNER})
TopicChange = SetMember | RemoveMember | UpdateTopic


class MemberChanged(NamedTuple):
    """A membership came, changed or (`now` None) ended. `fence` is the number of the fence it makes, 0 for none."""

    topic_id: str
    epoch: int
    user_id: str
    now: Membership | None
    fence: int


class TopicUpdated(NamedTuple):
    """Name, permissions or settings changed. `fence` is the number of the fence it makes, 0 for none.

    `before` are the settings as they were.
    """

    row: Row
    fence: int
    before: dict[str, Any]


class Decided(NamedTuple):
    """What a change came to: its verdict, and one effect where anything is different now."""

    verdict: Verdict
    effect: MemberChanged | TopicUpdated | None = None


def change_topic(shard: Shard, row: Row, record: Record, change: TopicChange) -> Decided:
    """Applies a change to a topic in the epoch it was decided against. Raises CorruptRecord; then nothing changed."""
    key = record.key or b""
    if shard.logic >= MESSAGES_LOGIC and is_direct(row.topic_id) and is_fixed(change):
        return Decided(Verdict(Code.FORBIDDEN, 0, row.epoch))
    if isinstance(change, UpdateTopic):
        return _update(shard, key, row, change)
    if not 1 <= len(change.user_id.encode("utf-8", "surrogatepass")) <= USER_BYTES:
        raise CorruptRecord(f"a user id has 1 to {USER_BYTES} bytes")
    return _change_member(shard, key, row, record, change)


def repeated(shard: Shard, row: Row, record: Record, change: TopicChange, code: int) -> Verdict:
    """Returns the verdict of a repeat: the first one's `code`, 0 where only the history index could know it."""
    if code in _REFUSED:
        return Verdict(code, 0, row.epoch)
    if isinstance(change, UpdateTopic):
        return Verdict(Code.UPDATED, row.version, row.epoch)
    if isinstance(change, RemoveMember):
        return Verdict(Code.REMOVED, 0, row.epoch)
    found = shard.membership(record.key or b"", row, change.user_id)
    return Verdict(Code.MEMBER, 0 if found is None else found.joined_seq, row.epoch)


def delete_verdict(
    shard: Shard, key: bytes, row: Row | None, deletion: DeleteTopic, epoch: int, *, is_repeat: bool
) -> Verdict:
    """Decides about a deletion of the topic in `epoch`. The repeat of a refused one is refused too."""
    is_there = row is not None and row.epoch == epoch
    if is_repeat:  # had the first one been allowed, the topic would not be there any longer
        return Verdict(Code.FORBIDDEN if is_there else Code.DELETED, 0, epoch)
    if row is None:
        return Verdict(Code.NO_TOPIC)
    if not is_there:
        return Verdict(Code.STALE_EPOCH)
    actor = deletion.actor if shard.logic >= CHECKS_LOGIC else None
    if actor is not None and not _rights(shard, key, row, actor) & Right.ADMINISTER:
        return Verdict(Code.FORBIDDEN, 0, epoch)
    return Verdict(Code.DELETED, 0, epoch)


def _rights(shard: Shard, key: bytes, row: Row, actor: Actor) -> Right:
    role = shard.role(key, row, actor.user_id)
    return rights_in(row.permissions, role, Right(actor.given) & Right.ALL, only=actor.only)


def _change_member(shard: Shard, key: bytes, row: Row, record: Record, change: SetMember | RemoveMember) -> Decided:
    role = _role_of(change) if isinstance(change, SetMember) else None
    old = shard.membership(key, row, change.user_id)
    members = shard.members.get(key)
    grant = may_change(
        _rights(shard, key, row, change.actor),
        own=change.actor.user_id == change.user_id,
        old=old and old.role,
        new=role,
        owners=members.owners if members is not None else 1,
        join_needs_subscribe=shard.logic >= CHECKS_LOGIC,
    )
    if grant is Grant.FORBIDDEN:
        return Decided(Verdict(Code.FORBIDDEN, 0, row.epoch))
    if grant is Grant.LAST_OWNER:
        return Decided(Verdict(Code.LAST_OWNER, 0, row.epoch))
    if role is None:
        return _remove(shard, key, row, change.user_id, old)
    if old is not None and old.role is role:
        return Decided(Verdict(Code.MEMBER, old.joined_seq, row.epoch))
    return _put(
        shard, key, row, change.user_id, old, _joined(row, role, record) if old is None else old._replace(role=role)
    )


def _put(shard: Shard, key: bytes, row: Row, user_id: str, old: Membership | None, now: Membership) -> Decided:
    _members_of(shard, key, row).put(user_id, now)
    loses = old is not None and ROLE_RIGHTS[old.role] & ~ROLE_RIGHTS[now.role] & Right.SUBSCRIBE
    fence = _fence(row) if loses else 0
    return Decided(
        Verdict(Code.MEMBER, now.joined_seq, row.epoch), MemberChanged(row.topic_id, row.epoch, user_id, now, fence)
    )


def _remove(shard: Shard, key: bytes, row: Row, user_id: str, old: Membership | None) -> Decided:
    verdict = Verdict(Code.REMOVED, 0, row.epoch)
    if old is None:
        return Decided(verdict)
    _members_of(shard, key, row).remove(user_id)
    return Decided(verdict, MemberChanged(row.topic_id, row.epoch, user_id, None, _fence(row)))


def _update(shard: Shard, key: bytes, row: Row, change: UpdateTopic) -> Decided:
    if not _rights(shard, key, row, change.actor) & Right.ADMINISTER:
        return Decided(Verdict(Code.FORBIDDEN, 0, row.epoch))
    if change.version != row.version:
        return Decided(Verdict(Code.CONFLICT, row.version, row.epoch))
    permissions = row.permissions if change.permissions is None else change.permissions
    settings = row.settings if change.settings is None else change.settings
    if permissions not in ANYONE:
        raise CorruptRecord(f"permissions {permissions!r}, expected one of {', '.join(ANYONE)}")
    if settings.get("profile") != row.settings.get("profile"):
        raise CorruptRecord("a topic's profile never changes")
    name = row.name if change.name is None else change.name
    if (name, permissions, settings) == (row.name, row.permissions, row.settings):
        return Decided(Verdict(Code.UPDATED, row.version, row.epoch))
    loses = ANYONE.get(row.permissions, Right.NONE) & ~ANYONE[permissions] & Right.SUBSCRIBE
    before = row.settings
    row.name, row.permissions, row.settings = name, permissions, dict(settings)
    row.version += 1
    fence = _fence(row) if loses else 0
    return Decided(Verdict(Code.UPDATED, row.version, row.epoch), TopicUpdated(row, fence, before))


def _members_of(shard: Shard, key: bytes, row: Row) -> Members:
    """Returns the topic's members; from the first change on its creator is an entry like all others."""
    members = shard.members.get(key)
    if members is None:
        members = shard.members[key] = Members(row.epoch)
        members.put(row.owner_id, shard.creator_of(row))
    return members


def _joined(row: Row, role: Role, record: Record) -> Membership:
    return Membership(role, row.seq, row.n, record.ts)


def _role_of(change: SetMember) -> Role:
    try:
        return Role(change.role)
    except ValueError:
        raise CorruptRecord(f"role {change.role!r}, expected one of {', '.join(Role)}") from None


def _fence(row: Row) -> int:
    row.fence += 1
    return row.fence
