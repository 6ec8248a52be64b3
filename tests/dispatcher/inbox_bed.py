"""An owner with several topics, for questions about what somebody has missed and how far he has read."""

import json
from pathlib import Path
from typing import Any

from headgate.core.sequencer.rows import Row
from headgate.core.wire import link
from headgate.core.wire.control import CreateTopic
from headgate.core.wire.envelope import Item, encode_message
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.link_inbox import AskMissed, Missed, MissedTopic, ResolveMark
from headgate.core.wire.rights import Caller
from tests.dispatcher.bed import until
from tests.dispatcher.members_bed import RNG, Far
from tests.dispatcher.messages_bed import ANN, MessagesBed


class InboxBed(MessagesBed):
    """`t` is one of the topics; all are of ann. Nothing is written to the inbox log."""

    def __init__(self, permissions: str = "PUBLIC", path: Path | str | None = ":memory:") -> None:
        super().__init__(permissions, path)
        self.owner.outputs.close()

    def create(self, topic_id: str, permissions: str = "PUBLIC", **settings: Any) -> Row:
        key = topic_key(topic_id)
        self.feed(self.control(CreateTopic(topic_id, topic_id, permissions, "ann", settings), key))
        return self.owner.rows[key]

    def put(self, topic_id: str, payload: Any = 1, publisher: str = "bob") -> None:
        """Publishes a message in any topic."""
        key = topic_key(topic_id)
        tail = f'"message_id":"m","publisher_id":"{publisher}","payload":{json.dumps(payload)}}}'
        item = Item(random_id(key, RNG.entropy(12)), 0, tail.encode())
        self.feed(self.record(encode_message(item, self.owner.rows[key].epoch), key))

    def place(self, topic_id: str, after_seq: int = 0) -> MissedTopic:
        return MissedTopic(topic_id, self.owner.rows[topic_key(topic_id)].epoch, after_seq)

    async def missed(self, *places: MissedTopic, caller: Caller = ANN, limit: int = 1_000) -> Missed:
        """The answer to a question, once it is there."""
        peer = Far()
        self.api.handle(peer, AskMissed(1, 0, caller, list(places), limit))
        await until(lambda: peer.sent)
        (answer,) = peer.sent
        assert isinstance(answer, Missed), answer
        return answer

    def mark(self, seq: int = -1, caller: Caller = ANN, **fields: Any) -> Any:
        """The answer about a mark, where it comes at once."""
        return self.ask(ResolveMark(1, fields.pop("topic_id", "t"), caller, seq, **fields))


def seqs(answer: Missed) -> list[tuple[str, list[int]]]:
    """What was answered, by topic."""
    return [(topic.topic_id, [json.loads(frame)["seq"] for frame in topic.frames]) for topic in answer.topics]


def code(answer: Any) -> str:
    return answer.code if isinstance(answer, link.Refused) else "ok"
