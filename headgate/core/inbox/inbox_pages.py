"""The join: heads, memberships, cursors and read marks as what a user sees of his topics.

A user may have very many topics. So a page is made in steps, each of at most SLICE_TOPICS topics: the generator yields
between two of them, when anything may change, and returns the page.
"""

from collections.abc import Generator
from heapq import nsmallest
from typing import Final, NamedTuple, TypeVar

from headgate.core.inbox.memberships import UserTopic
from headgate.core.inbox.users import UserTopics
from headgate.core.wire.link_inbox import InboxTopic, MissedTopic
from headgate.core.wire.rights import Caller, may_be_told_of

SLICE_TOPICS: Final = 250  # about a millisecond

P = TypeVar("P")
Steps = Generator[None, None, P]


class TopicCount(NamedTuple):
    """Where a topic is for a user: its head, what he has read, and how many messages are between them."""

    head_seq: int
    read_seq: int
    unread: int
    hot: bool


def inbox_page(
    users: UserTopics, user_id: str, device_id: str, after: str, limit: int, caller: Caller | None = None
) -> Steps[list[InboxTopic]]:
    """Makes a page of at most `limit` topics of a user, with ids above `after`, ascending.

    Topics of which `caller` may not be told are none of it.
    """
    found: list[str] = []
    slices = 0
    for slices, topics in enumerate(users.memberships.topics(user_id, SLICE_TOPICS)):
        if slices:
            yield
        last = found[-1] if len(found) == limit and found else None
        near = [topic_id for topic_id in topics if topic_id > after and (last is None or topic_id < last)]
        if caller is not None:
            near = [topic_id for topic_id in near if may_be_told_of(caller, topic_id)]
        found = nsmallest(limit, [*found, *[topic_id for topic_id in near if users.membership(user_id, topic_id)]])
    page: list[InboxTopic] = []
    for at in range(0, len(found), SLICE_TOPICS):
        if slices:
            yield
        page += [
            _topic_of(users, user_id, device_id, topic_id, topic)
            for topic_id in found[at : at + SLICE_TOPICS]
            if (topic := users.membership(user_id, topic_id)) is not None
        ]
    return page


def missed_page(
    users: UserTopics, user_id: str, device_id: str, after: tuple[int, str], limit: int
) -> Steps[tuple[list[MissedTopic], bool]]:
    """Makes a page of a user's topics whose head is above the cursor of a device, and says whether there are more.

    At most `limit` of them, by (`head_ts`, `topic_id`), above `after`.
    """
    found: list[tuple[tuple[int, str], MissedTopic]] = []
    for slices, topics in enumerate(users.memberships.topics(user_id, SLICE_TOPICS)):
        if slices:
            yield
        for topic_id in topics:
            missed = _missed(users, user_id, device_id, topic_id)
            if missed is not None and (missed.head_ts, topic_id) > after:
                found.append(((missed.head_ts, topic_id), missed))
        found = nsmallest(limit + 1, found, key=lambda each: each[0])
    return [missed for _, missed in found[:limit]], len(found) > limit


def whole(steps: Steps[P]) -> P:
    """Makes all steps of a page at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            page: P = end.value
            return page


def count_of(users: UserTopics, user_id: str, topic_id: str, topic: UserTopic) -> TopicCount:
    """Returns where a topic is for one of its members."""
    head_seq, head_n, hot = topic.joined_seq, topic.joined_n, False
    head = users.heads.find(topic_id)
    if head is not None and head.epoch == topic.epoch:
        head_seq, head_n, hot = max(head.seq, head_seq), max(head.n, head_n), head.hot
    read_seq, read_n = topic.joined_seq, topic.joined_n
    mark = users.marks.find(user_id, topic_id)
    if mark is not None and mark.epoch == topic.epoch:
        read_seq, read_n = max(mark.seq, read_seq), max(mark.n, read_n)
    # A mark may come before the pointer of what was read: the topic is as far as that at least.
    return TopicCount(max(head_seq, read_seq), read_seq, max(head_n - read_n, 0), hot)


def _topic_of(users: UserTopics, user_id: str, device_id: str, topic_id: str, topic: UserTopic) -> InboxTopic:
    count = count_of(users, user_id, topic_id, topic)
    mode = "inbox" if count.hot else "direct"
    cursor_seq = _cursor_of(users, user_id, device_id, topic_id, topic)
    head_seq = max(count.head_seq, cursor_seq)  # as for a read mark
    return InboxTopic(topic_id, topic.epoch, mode, head_seq, cursor_seq, count.read_seq, count.unread)


def _cursor_of(users: UserTopics, user_id: str, device_id: str, topic_id: str, topic: UserTopic) -> int:
    """Returns where a device is: at least where the user joined."""
    cursor = users.cursors.find(user_id, device_id, topic_id)
    same = cursor is not None and cursor.epoch == topic.epoch
    return max(cursor.seq, topic.joined_seq) if same and cursor is not None else topic.joined_seq


def _missed(users: UserTopics, user_id: str, device_id: str, topic_id: str) -> MissedTopic | None:
    head = users.heads.find(topic_id)
    topic = users.membership(user_id, topic_id) if head is not None else None
    if head is None or topic is None or head.epoch != topic.epoch:
        return None
    cursor_seq = _cursor_of(users, user_id, device_id, topic_id, topic)
    return MissedTopic(topic_id, topic.epoch, cursor_seq, head.ts) if head.seq > cursor_seq else None
