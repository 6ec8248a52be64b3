"""What everybody's inbox must be, told so plainly that it can be seen to be right: lists, and counting."""

from dataclasses import dataclass, field
from typing import Any

Device = tuple[str, str]  # user, device


@dataclass
class ModelMessage:
    """A message as it is now."""

    seq: int
    message_id: str
    payload: Any
    version: int = 1
    redacted: bool = False
    reactions: set[tuple[str, str]] = field(default_factory=set)  # user, name

    @property
    def counts(self) -> dict[str, int]:
        """How many users reacted, by name."""
        names = [name for _, name in self.reactions]
        return {name: names.count(name) for name in names}


@dataclass
class ModelTopic:
    """A topic in its present epoch; `head` counts events too. `joined` is the head at which each member came."""

    owner: str
    epoch: int = 0
    head: int = 0
    messages: list[ModelMessage] = field(default_factory=list)
    joined: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    cursors: dict[Device, int] = field(default_factory=dict)

    def read_to(self, user: str) -> int:
        """Returns what a member has read."""
        return max(self.joined[user], self.read.get(user, 0))

    def cursor_of(self, device: Device) -> int:
        """Returns where a member's device is."""
        return max(self.joined[device[0]], self.cursors.get(device, 0))

    def above(self, seq: int) -> list[ModelMessage]:
        """Returns the messages above a place: no edit, reaction or redaction is one."""
        return [message for message in self.messages if message.seq > seq]

    def entry(self, topic_id: str, device: Device) -> dict[str, Any]:
        """Returns what `GET /inbox` says of the topic."""
        read = self.read_to(device[0])
        return {
            "topic_id": topic_id,
            "epoch": self.epoch,
            "mode": "direct",
            "head_seq": self.head,
            "cursor_seq": self.cursor_of(device),
            "read_seq": read,
            "unread": len(self.above(read)),
        }


class Model:
    """All topics that there are, by id."""

    def __init__(self) -> None:
        self.topics: dict[str, ModelTopic] = {}

    def create(self, topic_id: str, owner: str, epoch: int) -> None:
        """A topic is new, whatever was there before."""
        self.topics[topic_id] = ModelTopic(owner, epoch, joined={owner: 0})

    def join(self, topic_id: str, user: str) -> None:
        """A user is a member from here on; one who is already stays what he was."""
        topic = self.topics[topic_id]
        topic.joined.setdefault(user, topic.head)

    def leave(self, topic_id: str, user: str) -> None:
        """A user is no member any longer; his places are as they were."""
        self.topics[topic_id].joined.pop(user, None)

    def publish(self, topic_id: str, seq: int, message_id: str, payload: Any) -> None:
        """A message has its number; answers may come in any order."""
        topic = self.topics[topic_id]
        topic.messages.append(ModelMessage(seq, message_id, payload))
        topic.messages.sort(key=lambda message: message.seq)
        topic.head = max(topic.head, seq)

    def acknowledge(self, topic_id: str, device: Device, seq: int) -> None:
        """A device has a topic up to a place."""
        topic = self.topics[topic_id]
        topic.cursors[device] = max(topic.cursors.get(device, 0), min(seq, topic.head))

    def mark(self, topic_id: str, user: str, seq: int) -> None:
        """A user has read a topic up to a place."""
        topic = self.topics[topic_id]
        topic.read[user] = max(topic.read.get(user, 0), min(seq, topic.head))

    def inbox(self, device: Device) -> list[dict[str, Any]]:
        """Returns the topics of `GET /inbox`, by id."""
        mine = ((topic_id, topic) for topic_id, topic in sorted(self.topics.items()) if device[0] in topic.joined)
        return [topic.entry(topic_id, device) for topic_id, topic in mine]

    def missed(self, device: Device) -> dict[str, list[ModelMessage]]:
        """Returns what a device has missed, by topic; no topic without a message."""
        mine = {topic_id: topic for topic_id, topic in self.topics.items() if device[0] in topic.joined}
        found = {topic_id: topic.above(topic.cursor_of(device)) for topic_id, topic in mine.items()}
        return {topic_id: messages for topic_id, messages in found.items() if messages}
