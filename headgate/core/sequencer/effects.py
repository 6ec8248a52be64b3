"""What the owner of a shard has to do after a record was applied."""

from typing import NamedTuple

from headgate.core.sequencer.members import Members
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.topic_changes import MemberChanged, TopicUpdated
from headgate.core.wire.envelope import LOW, REPLY
from headgate.core.wire.message_changes import MessageChange


class Deliver(NamedTuple):
    """An accepted message, ready for every transport. `item` is its place in a bundle, `flags` are its record's."""

    topic_id: str
    epoch: int
    seq: int
    ts: int
    id: bytes
    item: int
    frame: bytes
    flags: int

    @property
    def low(self) -> bool:
        """Whether its priority is LOW."""
        return bool(self.flags & LOW)

    @property
    def reply(self) -> bool:
        """Whether it has a `parent_message_id`."""
        return bool(self.flags & REPLY)


class MessageChanged(NamedTuple):
    """A message was edited, redacted or reacted to. `event` is the event with its own seq, to be delivered."""

    event: Deliver
    change: MessageChange


class Unusable(NamedTuple):
    """A record that is refused as a whole: none of its `items` messages takes a number. It becomes a dead letter.

    `reason` is one word, `detail` is for people.
    """

    items: int
    reason: str
    detail: str


class TopicCreated(NamedTuple):
    """A topic was created."""

    row: Row


class TopicDeleted(NamedTuple):
    """A topic was deleted; its subscriptions end. `members` are those it had; None: its creator `owner_id` alone."""

    topic_id: str
    epoch: int
    owner_id: str
    members: Members | None


Effect = Deliver | MessageChanged | Unusable | TopicCreated | TopicDeleted | MemberChanged | TopicUpdated
