"""The golden log of deletions and of users who join: written once, at logic 3 and, from the middle on, at logic 4."""

import random
from pathlib import Path
from typing import Any, Final

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import (
    CHECKS_LOGIC,
    LOGIC_KEY,
    MESSAGES_LOGIC,
    Actor,
    Config,
    Control,
    CreateTopic,
    DeleteTopic,
    Logic,
    RemoveMember,
    SetMember,
    encode_body,
)
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.member_roles import ANYONE, Right, Role
from headgate.core.wire.records import Record

FILE: Final = Path(__file__).parent / "log-v4.json"
START: Final = 9_000
TOPICS: Final = "abcd"


def make_log(seed: int = 4, count: int = 600) -> list[Record]:
    """Four topics, one of each mode: users who join, are put out and delete, with repeats and late epochs."""
    rng = random.Random(seed)
    config = Config(cluster_id="golden", generation=3, shards=1, shard=0, logic=MESSAGES_LOGIC)
    records: list[Record] = []
    shard, rows = Shard(), dict[bytes, Row]()  # so that most records name the epoch that there is

    def add(key: bytes, control: Control, epoch: int, name: str = "") -> None:
        offset = START + len(records)
        value = encode_control(encode_body(control), epoch, *([keyed_id(key, "e", name)] if name else []))
        records.append(Record(offset, 1_700_000_000_000 + offset, key, value))
        list(apply_many(shard, rows, records[-1:]))

    add(b"hg:config", config, 0)
    for n in range(count):
        if n == count // 2:
            add(LOGIC_KEY, Logic(CHECKS_LOGIC), 0)
        topic = rng.choice(TOPICS)
        key = topic_key(topic)
        if key not in rows:
            add(key, CreateTopic(topic, topic, list(ANYONE)[TOPICS.index(topic)], "ann"), 0)
        epoch = rows[key].epoch - (rng.random() < 0.05)
        add(key, _control(rng, topic), epoch, str(rng.randrange(count // 2)) if rng.random() < 0.7 else "")
    return records


def _control(rng: random.Random, topic: str) -> Control:
    user = rng.choice(("ann", "bob", "eve"))
    actor = Actor(user, given=rng.choice((0, 0, 1, 2, 3, Right.ALL)), only=rng.random() < 0.2)
    what = rng.random()
    if what < 0.1:
        return DeleteTopic(topic, actor if rng.random() < 0.9 else None)
    if what < 0.8:
        return SetMember(topic, user if rng.random() < 0.7 else "eve", rng.choice(list(Role)), actor)
    return RemoveMember(topic, rng.choice(("bob", "eve")), actor)


def decide(records: list[Record]) -> dict[str, Any]:
    """Applies a log to a fresh shard; returns what is compared."""
    shard, rows = Shard(), dict[bytes, Row]()
    verdicts = []
    for _, applied in apply_many(shard, rows, records):
        verdicts.append([[int(v.code), v.seq, v.epoch] for v in applied.verdicts])
    members = {
        key.decode(): [
            [name, str(member.role), member.joined_seq] for name, member in shard.members_above(key, row, "", 9)
        ]
        for key, row in sorted(rows.items())
    }
    return {
        "verdicts": verdicts,
        "digest": shard.digest.value.hex(),
        "window": len(shard.window),
        "rows": {key.decode(): [row.epoch, row.seq, row.fence] for key, row in sorted(rows.items())},
        "members": members,
    }
