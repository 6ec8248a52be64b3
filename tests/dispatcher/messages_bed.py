"""An owner with the topic `t`, messages in it and changes of them, with or without an index file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from headgate.core.wire import link
from headgate.core.wire.control import Actor
from headgate.core.wire.envelope import REPLY, Item, encode_message
from headgate.core.wire.ids import id_text, random_id
from headgate.core.wire.link_messages import AskMessage
from headgate.core.wire.message_changes import (
    EditMessage,
    MessageChange,
    ReactToMessage,
    RedactMessage,
    encode_event,
    event_tail,
)
from headgate.core.wire.records import Record
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Verdict
from tests.dispatcher.members_bed import KEY, RNG, MembersBed

ME = LogIdentity("c", 1, 0)
ANN, BOB, EVE = Caller("ann"), Caller("bob"), Caller("eve")


class AtEnd:
    """A log of which everything is applied."""

    def wait(self, asker: object, again: Callable[[bool], None]) -> bool:
        again(True)
        return True

    def applied(self, next_offset: int) -> None:
        pass


class MessagesBed(MembersBed):
    """`places` are the positions of messages by seq, `ids` their ids; everything was published by bob."""

    def __init__(self, permissions: str = "PUBLIC", path: Path | str | None = ":memory:") -> None:
        super().__init__(permissions)
        self.owner.log_end = AtEnd()  # type: ignore[assignment]
        self.places: dict[int, int] = {}
        self.ids: dict[int, bytes] = {}
        if path is not None:
            self.open(path)

    def open(self, path: Path | str) -> None:
        self.owner.history.opened(HistoryIndex(path, ME))

    def publish(self, payload: Any = 1, *, parent: int = 0, rest: str = "", record_id: bytes = b"") -> int:
        record_id = record_id or random_id(KEY, RNG.entropy(12))
        text = json.dumps(payload, separators=(",", ":"))
        reply = f',"parent_message_id":"{id_text(self.ids[parent])}"' if parent else ""
        tail = f'"message_id":"{id_text(record_id)}","publisher_id":"bob","payload":{text}{reply}{rest}}}'
        item = Item(record_id, REPLY if parent else 0, tail.encode())
        return self._numbered(self.record(encode_message(item, self.row.epoch)), record_id)

    def _numbered(self, record: Record, record_id: bytes) -> int:
        self.feed(record)
        seq = self.row.seq
        self.places[seq], self.ids[seq] = record.offset << 10, record_id
        return seq

    def changing(self, change: MessageChange, payload: bytes = b"null", record_id: bytes = b"") -> Record:
        record_id = record_id or random_id(KEY, RNG.entropy(12))
        return self.record(encode_event(change, event_tail(record_id, change, payload), self.row.epoch, record_id))

    def change(self, change: MessageChange, payload: bytes = b"null") -> Verdict:
        record_id = random_id(KEY, RNG.entropy(12))
        record = self.changing(change, payload, record_id)
        self._numbered(record, record_id)
        (verdict,) = self.owner.verdicts.get(record.offset) or ()
        return verdict

    def edit(self, seq: int, payload: Any, version: int = 1, user: str = "bob") -> Verdict:
        text = json.dumps(payload, separators=(",", ":")).encode()
        return self.change(EditMessage(seq, self.places[seq], version, Actor(user)), text)

    def redact(self, seq: int, user: str = "bob", *, own: bool = True) -> Verdict:
        return self.change(RedactMessage(seq, self.places[seq], own, Actor(user)))

    def react(self, seq: int, name: str, user: str = "bob", *, removed: bool = False) -> Verdict:
        return self.change(ReactToMessage(seq, self.places[seq], name, removed, Actor(user)))

    def write(self) -> None:
        """Writes all that is in memory to the index file."""
        while self.owner.history.write():
            pass
        assert len(self.owner.history.recent) == 0

    def history(self, caller: Caller = ANN, **query: Any) -> list[dict[str, Any]]:
        """A page of history as a client gets it."""
        answer = self.page(caller, **query)
        assert isinstance(answer, link.HistoryPage), answer
        return [json.loads(frame) for frame in answer.frames]

    def page(self, caller: Caller = ANN, **query: Any) -> Any:
        fields = {"after_seq": -1, "before_seq": -1, "since_ts": -1, "limit": 100, **query}
        return self.ask(link.AskHistory(1, "t", caller, **fields))

    def about(self, seq: int, purpose: str, caller: Caller = BOB, **fields: Any) -> Any:
        """The answer about a message."""
        return self.ask(AskMessage(1, 0, fields.pop("topic_id", "t"), caller, self.ids[seq], purpose, **fields))
