"""Link messages about inboxes: what a user has missed, his read marks, and what his connections are told of both.

Positions come from the owner of the user's shard: it joins the heads of topics with the user's memberships, cursors and
read marks. Payloads come from the topics' owners, who authorise the user. A read mark is durable: a record of the inbox
log, merged by maximum. Hints, receipts and heat are soft: the next one makes up for a lost one.
"""

from typing import Final

from headgate.core.wire.link_struct import LinkStruct
from headgate.core.wire.rights import Caller

PAGE_TOPICS: Final = 1_000  # of one InboxAnswer
MISSED_TOPICS: Final = 1_000  # of one MissedTopics or AskMissed
MISSED_MESSAGES: Final = 1_000  # of one Missed
MISSED_BYTES: Final = 1024 * 1024  # of the frames of one Missed; at least one message
MAX_MARKS: Final = 500  # of one MoveMarks
HINT_TOPICS: Final = 100  # of one hint to one user
RECEIPT_PUBLISHERS: Final = 100  # of one ReadReceipt: of the newest messages that were read


class InboxTopic(LinkStruct):
    """A topic of a user; `mode` is `direct` or `inbox`.

    `cursor_seq` is where the device is and `read_seq` what the user has read, both at least where he joined. `unread`
    counts messages above `read_seq`.
    """

    topic_id: str
    epoch: int
    mode: str
    head_seq: int
    cursor_seq: int
    read_seq: int
    unread: int


class AskInbox(LinkStruct, tag=160):
    """Asks the owner of a user's shard for his topics with ids above `after`, ascending, at most `limit`.

    Those of which `caller` may not be told are left out; None: all are told. Answer: InboxAnswer or Refused.
    """

    req: int
    user_id: str
    device_id: str
    after: str
    limit: int
    caller: Caller | None = None


class InboxAnswer(LinkStruct, tag=161):
    """Answer to AskInbox; fewer than `limit` topics are the last."""

    req: int
    topics: list[InboxTopic]


class AskMissedTopics(LinkStruct, tag=162):
    """Asks the owner of a user's shard for his topics whose head is above the cursor of a device.

    At most MISSED_TOPICS of them, by the time of their newest message and then by their ids, above (`after_ts`,
    `after_id`). Answer: MissedTopics or Refused.
    """

    req: int
    user_id: str
    device_id: str
    after_ts: int = -1
    after_id: str = ""


class MissedTopic(LinkStruct):
    """A topic with something above `after_seq`; `head_ts` is the time of its newest message in Unix milliseconds."""

    topic_id: str
    epoch: int
    after_seq: int
    head_ts: int = 0


class MissedTopics(LinkStruct, tag=163):
    """Answer to AskMissedTopics; `more` says that there are more of them."""

    req: int
    topics: list[MissedTopic]
    more: bool


class AskMissed(LinkStruct, tag=164):
    """Asks the owner of a shard for messages of several of its topics, each above its `after_seq`, at most `limit`.

    Answer: Missed or Refused.
    """

    req: int
    shard: int
    caller: Caller
    topics: list[MissedTopic]
    limit: int


class MissedMessages(LinkStruct):
    """Messages of one topic, ascending, as they are now; `first_ts` is the time of the oldest in Unix milliseconds."""

    topic_id: str
    first_ts: int
    frames: list[bytes]


class Missed(LinkStruct, tag=165):
    """Answer to AskMissed: topics by `first_ts` and then by their ids.

    A topic that the caller may not read, that was recreated, or that has no message above its place is left out.
    `whole` is false where a bound ended the answer: there are more messages, in the last of these topics or in topics
    whose oldest message is not older than that of the last.
    """

    req: int
    topics: list[MissedMessages]
    whole: bool


class ResolveMark(LinkStruct, tag=166):
    """Asks the owner of a topic what a mark at `seq`, or at a message, means; a seq above the head is the head.

    Answer: ResolvedMark, or Refused: `topic_not_found` for one who is no member, `message_not_found`, `not_in_profile`.
    """

    req: int
    topic_id: str
    caller: Caller
    seq: int = -1
    message_id: bytes = b""


class ResolvedMark(LinkStruct, tag=167):
    """Answer to ResolveMark: `n` is how many messages the topic had up to `seq`, in this `epoch`."""

    req: int
    topic_id: str
    epoch: int
    seq: int
    n: int


class ReadMark(LinkStruct):
    """A user has read a topic up to `seq`, the first `n` messages. Of two the higher (epoch, seq) holds."""

    user_id: str
    topic_id: str
    epoch: int
    seq: int
    n: int


class MoveMarks(LinkStruct, tag=168):
    """Stores at most MAX_MARKS read marks of a shard's users. Answer: MarksMoved once they are applied, or Refused."""

    req: int
    shard: int
    marks: list[ReadMark]


class MarksMoved(LinkStruct, tag=169):
    """Answer to MoveMarks: the log has them, and the next answer about an inbox counts them."""

    req: int


class ReadStored(LinkStruct, tag=170):
    """Tells the owner of a topic that a read mark is stored. No answer.

    Where the topic's presence is `list` it tells the publishers of what was read (ReadReceipt).
    """

    topic_id: str
    epoch: int
    user_id: str
    seq: int


class ReadReceipt(LinkStruct, tag=171):
    """A topic's owner tells the gateways that host it who has read up to `seq`; at most one a second and reader.

    Only the sessions of the `publishers` are told: those of the messages that were read since the last receipt.
    """

    topic_id: str
    epoch: int
    user_id: str
    seq: int
    publishers: list[str]


class HintTopic(LinkStruct):
    """A topic with new messages."""

    topic_id: str
    head_seq: int
    unread: int


class UserHint(LinkStruct):
    """New messages of a connected user: at most HINT_TOPICS topics."""

    user_id: str
    topics: list[HintTopic]


class UserHints(LinkStruct, tag=172):
    """The owner of users' shard tells a gateway what is new for users who are connected there. No answer.

    A session is told of the topics that it does not follow. At most one hint a second and user.
    """

    users: list[UserHint]


class UserRead(LinkStruct, tag=173):
    """The owner of a user's shard tells his gateways that he has read a topic up to `seq`, for his other devices."""

    user_id: str
    topic_id: str
    seq: int
    unread: int


class TopicHeat(LinkStruct, tag=174):
    """A topic's owner tells the gateways that host it how to deliver it: `direct`, `paced` or `inbox`. No answer."""

    topic_id: str
    epoch: int
    heat: str


InboxRequest = AskInbox | AskMissedTopics | AskMissed | ResolveMark | MoveMarks
InboxReply = InboxAnswer | MissedTopics | Missed | ResolvedMark | MarksMoved
InboxReport = ReadStored  # of an ingest or gateway, to the owner of a topic
InboxPush = ReadReceipt | TopicHeat  # of a topic's owner, to gateways that host it
InboxNews = UserHints | UserRead  # of the owner of a user's shard, to gateways where he is
