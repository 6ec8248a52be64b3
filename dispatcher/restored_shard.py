"""Builds the state of one shard from the lines of a backup, in which the topics have their new epochs."""

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import Final, NamedTuple

from dispatcher.backup_lines import ChangedLine, CursorLine, HeadLine, Line, MarkLine, MemberLine, TopicLine
from headgate.core.inbox.packed_rows import SLICE_ROWS, packed
from headgate.core.inbox.topic_heads import TopicHead, head_key
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.changed_messages import ChangedMessage
from headgate.core.sequencer.heat import Heat
from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import Config
from headgate.core.wire.envelope import MAX_ITEMS
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, topic_key
from headgate.core.wire.inbox_record import CursorEntry, MarkEntry, MembershipRecord

_OFFSET: Final = (1 << EPOCH_OFFSET_BITS) - 1


class ShardCounts(NamedTuple):
    """How much a shard has: of topics, and of users."""

    topics: int
    members: int
    changed: int
    cursors: int
    marks: int


def counts_of(shard: Shard, rows: dict[bytes, Row], users: UserTopics) -> ShardCounts:
    """Returns how much is in a shard."""
    members = sum(shard.member_count(key) for key in rows)
    keys = chain.from_iterable(users.cursors.keys(SLICE_ROWS))
    devices = sum(len(users.cursors.row(key) or ()) for key in keys)
    return ShardCounts(len(rows), members, shard.changed.count, devices, len(users.marks))


def restored_shard(
    config: Config, topics: Iterable[Line], members: Iterable[Line], changed: Iterable[Line]
) -> tuple[Shard, dict[bytes, Row]]:
    """Returns the shard and its rows. The members of a topic stand together, ascending."""
    shard = Shard()
    shard.config, shard.logic = config, config.logic
    rows: dict[bytes, Row] = {}
    for line in topics:
        assert isinstance(line, TopicLine)
        rows[topic_key(line.topic_id)] = _row(line)
    for topic_id, lines in _by_topic(members):
        key = topic_key(topic_id)
        _join(shard, key, rows[key], lines)
    for line in changed:
        assert isinstance(line, ChangedLine)
        key = topic_key(line.topic_id)
        epoch = rows[key].epoch
        pos = (epoch & _OFFSET) * MAX_ITEMS  # below every message that will come
        shard.changed.put(key, epoch, line.seq, ChangedMessage(line.version, pos, line.redacted))
    return shard, rows


def restored_users(lines: Iterable[Line], now_ms: int) -> UserTopics:
    """Returns the users of a shard. A topic and its head stand before the members that it has here."""
    users = UserTopics()
    topics: dict[str, TopicLine] = {}
    for line in lines:
        match line:
            case TopicLine():
                topics[line.topic_id] = line
            case HeadLine() if topics[line.topic_id].seq:  # pointers are only written of topics with messages
                users.load(head_key(line.topic_id), packed(_head(topics[line.topic_id], line.ts, now_ms)))
            case MemberLine():
                users.memberships.merge(line.user_id, _membership(topics[line.topic_id], line))
            case CursorLine():
                ids = line.user_id, line.device_id, line.topic_id
                entry = CursorEntry(*ids, line.epoch, line.seq, line.above, line.attempts)
                users.cursors.merge(entry, line.heard_s * 1_000)
            case MarkLine():
                mark = MarkEntry(line.user_id, line.topic_id, line.epoch, line.seq, line.n)
                users.marks.merge(mark, line.heard_s * 1_000)
    return users


def _row(line: TopicLine) -> Row:
    return Row(
        line.topic_id,
        line.epoch,
        line.seq,
        line.name,
        line.permissions,
        line.owner_id,
        line.created_at,
        line.settings,
        line.version,
        line.fence,
        line.others,
        line.tally,
        line.heat,
    )


def _by_topic(lines: Iterable[Line]) -> Iterator[tuple[str, Iterator[MemberLine]]]:
    members = (line for line in lines if isinstance(line, MemberLine))
    return groupby(members, key=lambda line: line.topic_id)


def _join(shard: Shard, key: bytes, row: Row, lines: Iterator[MemberLine]) -> None:
    """Makes the members of a topic; one whose only member is its creator has no `Members`."""
    found = [(line.user_id, _place(line)) for line in lines]
    if found == [(row.owner_id, Shard.creator_of(row))]:
        return
    members = shard.members[key] = Members(row.epoch)
    for user_id, membership in found:
        members.put(user_id, membership)


def _place(line: MemberLine) -> Membership:
    return Membership(line.role, line.joined_seq, line.joined_n, line.joined_at)


def _membership(topic: TopicLine, line: MemberLine) -> MembershipRecord:
    return MembershipRecord(topic.topic_id, topic.epoch, topic.epoch & _OFFSET, line.role, *_place(line)[1:])


def _head(topic: TopicLine, ts: int, now_ms: int) -> TopicHead:
    hot = topic.heat == Heat.INBOX
    n = topic.seq - topic.others
    return TopicHead(topic.epoch, topic.seq, n, ts, 0, now_ms // 1_000, hot, gone=False, has_ended=False)
