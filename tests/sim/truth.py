"""What the log says, told by a sequencer so naive that it can be seen to be right; shares no code with `apply`."""

from typing import Any, NamedTuple

import msgspec

from headgate.core.wire.control import CreateTopic, DeleteTopic, RemoveMember, SetMember, UpdateTopic, decode_body
from headgate.core.wire.envelope import Kind, decode, is_ours
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.ids import foreign_id, id_text, make_epoch
from headgate.core.wire.message_changes import MessageChange, decode_event
from headgate.core.wire.records import Record
from tests.sim.changes import Changes
from tests.sim.members import Doors


class Numbered(NamedTuple):
    """A message that has its number."""

    topic_id: str
    epoch: int
    seq: int
    id: str
    ts: int
    shard: int
    offset: int
    item: int
    payload: Any
    change: MessageChange | None = None  # of an event


class Dead(NamedTuple):
    """A message that takes no number: its topic is not there, or another."""

    topic_id: str
    shard: int
    offset: int
    item: int
    id: str


class Truth:
    """All shards' logs, read from the beginning. `messages` by (topic, epoch), in order of seq.

    `logs` may grow: `read_on` takes what came since. `spoiled` are (shard, offset) of records that nobody can read.
    """

    def __init__(self, logs: dict[int, list[Record]]) -> None:
        self.messages: dict[tuple[str, int], list[Numbered]] = {}
        self.alive: dict[str, int] = {}  # topic -> epoch
        self.epochs: dict[str, list[int]] = {}
        self.dead: list[Dead] = []
        self.doors = Doors()
        self.changes = Changes()
        self._versions: dict[tuple[str, int], int] = {}
        self.spoiled: list[tuple[int, int]] = []
        self._seen: set[tuple[int, bytes]] = set()
        self._logs = logs
        self._read = dict.fromkeys(logs, 0)
        self.read_on()

    def read_on(self) -> None:
        """Takes what was written since."""
        for shard, records in sorted(self._logs.items()):
            for record in records[self._read[shard] :]:
                self._take(shard, record)
            self._read[shard] = len(records)

    def head(self, topic_id: str) -> int:
        """Returns the newest seq of a topic that exists."""
        return len(self.messages[topic_id, self.alive[topic_id]])

    def _take(self, shard: int, record: Record) -> None:
        if record.value is None or not is_ours(record.value):
            self._foreign(shard, record)
            return
        try:
            envelope = decode(record.value)
        except CorruptRecord:
            self.spoiled.append((shard, record.offset))
            return
        topic_id = (record.key or b"").decode()
        if envelope.kind is Kind.CONTROL:
            self._control(topic_id, record, envelope)
            return
        if envelope.kind is Kind.EVENT:
            self._event(topic_id, shard, record, envelope)
            return
        for item, message in enumerate(envelope.items):
            tail = msgspec.json.decode(b"{" + message.tail)
            if self.alive.get(topic_id) != envelope.epoch:
                self.dead.append(Dead(topic_id, shard, record.offset, item, id_text(message.id)))
            elif (envelope.epoch, message.id) not in self._seen:
                self._seen.add((envelope.epoch, message.id))
                kept = self.messages[topic_id, envelope.epoch]
                text = id_text(message.id)
                place = (shard, record.offset, item)
                kept.append(Numbered(topic_id, envelope.epoch, len(kept) + 1, text, record.ts, *place, tail["payload"]))

    def _event(self, topic_id: str, shard: int, record: Record, envelope: Any) -> None:
        """A change of a message: in a run everybody has the right to it."""
        change, tail = decode_event(envelope.body)
        name, epoch = (envelope.epoch, envelope.id), envelope.epoch
        kept = self.messages.get((topic_id, epoch), [])
        if self.alive.get(topic_id) != epoch or name in self._seen or change.target_seq > len(kept):
            return
        payload = msgspec.json.decode(b"{" + tail)["payload"]
        original = kept[change.target_seq - 1].payload
        if self.changes.take((topic_id, epoch), len(kept) + 1, original, change, payload):
            self._seen.add(name)
            place = (record.ts, shard, record.offset, 0)
            kept.append(Numbered(topic_id, epoch, len(kept) + 1, id_text(envelope.id), *place, payload, change))

    def _foreign(self, shard: int, record: Record) -> None:
        """A foreign producer's record: what is good says who sent it, so that no JSON has to be judged here."""
        key, value = record.key or b"", record.value or b""
        if b'"by":"kafka"' not in value:
            self.spoiled.append((shard, record.offset))
            return
        topic_id, text = key.decode(), id_text(foreign_id(key, shard, record.offset))
        epoch = self.alive.get(topic_id)
        if epoch is None:
            self.dead.append(Dead(topic_id, shard, record.offset, 0, text))
            return
        kept = self.messages[topic_id, epoch]
        payload = msgspec.json.decode(value)
        kept.append(Numbered(topic_id, epoch, len(kept) + 1, text, record.ts, shard, record.offset, 0, payload))

    def _control(self, topic_id: str, record: Record, envelope: Any) -> None:
        control = decode_body(envelope.body)
        name = (envelope.epoch, envelope.id)
        if isinstance(control, CreateTopic) and topic_id not in self.alive and name not in self._seen:
            self._seen.add(name)
            epoch = make_epoch(1, record.offset)
            self.alive[topic_id] = epoch
            self.epochs.setdefault(topic_id, []).append(epoch)
            self.messages[topic_id, epoch] = []
            self.doors.created(topic_id, epoch, control.permissions, control.owner_id)
        elif isinstance(control, DeleteTopic) and self.alive.get(topic_id) == envelope.epoch:
            self._seen.add(name)
            del self.alive[topic_id]
        elif isinstance(control, SetMember | RemoveMember | UpdateTopic):
            fits = name not in self._seen and self.alive.get(topic_id) == envelope.epoch
            if fits and self._door(topic_id, envelope.epoch, control):
                self._seen.add(name)

    def _door(self, topic_id: str, epoch: int, control: Any) -> bool:
        """A change of members or permissions; false for one that was decided against another version of the topic."""
        version = self._versions.get((topic_id, epoch), 0)
        if isinstance(control, UpdateTopic):
            if control.version != version:
                return False
            self._versions[topic_id, epoch] = version + (control.permissions != self.doors.mode(topic_id, epoch))
        self.doors.change(topic_id, epoch, len(self.messages[topic_id, epoch]), control)
        return True
