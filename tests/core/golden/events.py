"""The golden log of records that change messages: written once, at logic 3."""

import random
from pathlib import Path
from typing import Any, Final

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.effects import MessageChanged
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import MESSAGES_LOGIC, Actor, Config, CreateTopic, DeleteTopic, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, make_epoch, topic_key
from headgate.core.wire.member_roles import Right
from headgate.core.wire.message_changes import (
    EditMessage,
    MessageChange,
    ReactToMessage,
    RedactMessage,
    encode_event,
    event_tail,
)
from headgate.core.wire.records import Record

FILE: Final = Path(__file__).parent / "log-v3.json"
TAIL: Final = b'"message_id":"x","publisher_id":"bob","payload":1}'


def make_log(seed: int = 3) -> list[Record]:
    """Two topics, one PUBLIC and one PRIVATE and created again; changes with good and bad versions, rights and ids."""
    rng = random.Random(seed)
    config = Config(cluster_id="golden", generation=3, shards=1, shard=0, logic=MESSAGES_LOGIC)
    records = [Record(7_000, 1, b"hg:config", encode_control(encode_body(config), 0))]

    def add(topic: str, value: bytes) -> None:
        offset = 7_000 + len(records)
        records.append(Record(offset, 1_700_000_000_000 + offset, topic_key(topic), value))

    epochs: dict[str, int] = {}
    for topic, mode in (("a", "PUBLIC"), ("b", "PRIVATE")):
        epochs[topic] = make_epoch(3, 7_000 + len(records))
        add(topic, encode_control(encode_body(CreateTopic(topic, topic, mode, "ann")), 0))
    for n in range(400):
        topic = rng.choice("ab")
        key = topic_key(topic)
        if n == 300:
            add("b", encode_control(encode_body(DeleteTopic("b")), epochs["b"]))
            old, epochs["b"] = epochs["b"], make_epoch(3, 7_000 + len(records))
            add("b", encode_control(encode_body(CreateTopic("b", "b", "PRIVATE", "bob")), 0))
            add("b", event_of(key, RedactMessage(1, 1, True, Actor("bob")), "late", old))
        if rng.random() < 0.3:
            add(topic, encode_message(Item(keyed_id(key, "bob", str(n)), KEYED, TAIL), epochs[topic]))
        else:
            add(topic, event_of(key, _change(rng), str(rng.randrange(350)), epochs[topic]))
    return records


def _change(rng: random.Random) -> MessageChange:
    actor = Actor(rng.choice(("ann", "bob", "eve")), given=rng.choice((0, 0, Right.ALL)))
    seq = rng.randrange(0, 12)
    what = rng.random()
    if what < 0.5:
        return EditMessage(seq, 7_100 + seq, rng.choice((1, 1, 2, 3)), actor)
    if what < 0.65:
        return RedactMessage(seq, 7_100 + seq, rng.random() < 0.5, actor)
    return ReactToMessage(seq, 7_100 + seq, rng.choice(("+1", "x\u00e9", "")), rng.random() < 0.3, actor)


def event_of(key: bytes, change: MessageChange, name: str, epoch: int) -> bytes:
    """Returns the record of a change; equal names are repeats."""
    record_id = keyed_id(key, "e", name)
    payload = b'{"new":1}' if isinstance(change, EditMessage) else b"null"
    return encode_event(change, event_tail(record_id, change, payload), epoch, record_id, KEYED)


def decide(records: list[Record]) -> dict[str, Any]:
    """Applies a log to a fresh shard; returns what is compared."""
    shard, rows = Shard(), dict[bytes, Row]()
    verdicts, frames = [], []
    for _, applied in apply_many(shard, rows, records):
        verdicts.append([[int(v.code), v.seq, v.epoch] for v in applied.verdicts])
        frames += [e.event.frame.decode() for e in applied.effects if isinstance(e, MessageChanged)]
    return {
        "verdicts": verdicts,
        "digest": shard.digest.value.hex(),
        "window": len(shard.window),
        "rows": {k.decode(): [r.epoch, r.seq, r.others] for k, r in sorted(rows.items())},
        "changed": [[k.decode(), epoch, seq, *row] for k, epoch, seq, row in sorted(shard.changed)],
        "below": shard.changed.below,
        "frames": frames[:20],
    }
