"""Golden logs: records and what `apply` decided, kept for ever; a change of meaning needs a `logic` record.

`python -m tests.core.golden` writes the files that are missing: only a log that did not exist before is written.
"""

import base64
import json
import random
from pathlib import Path
from typing import Any

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import Config, CreateTopic, DeleteTopic, Probe, encode_body
from headgate.core.wire.envelope import KEYED, Item, encode_bundle, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.records import Record

FILE = Path(__file__).parent / "log-v1.json"
START = 5_000
CONFIG = Config(cluster_id="golden", generation=3, shards=1, shard=0, dedup_max_ids=6_000, dedup_unkeyed_ids=4_096)


def tail(n: int) -> bytes:
    return b'"message_id":"%d","publisher_id":"p","payload":{"n":%d}}' % (n, n)


def make_log(seed: int = 1, count: int = 1_500) -> list[Record]:
    """A log with everything in it: creates, deletes, repeats, bundles, foreign and broken records, gaps, bad clocks."""
    rng = random.Random(seed)
    topics = [f"t{n}" for n in range(6)]
    epochs: dict[str, int] = {}
    records = [Record(START, 1_700_000_000_000, b"hg:config", encode_control(encode_body(CONFIG), 0))]
    offset, ts = START, 1_700_000_000_000
    for n in range(count):
        offset += rng.choice((1, 1, 1, 2, 40))
        ts += rng.choice((0, 5, 5, 1000, -3000, 10**9 if n % 200 == 0 else 1))
        topic = rng.choice(topics)
        key = topic_key(topic)
        records.append(Record(offset, ts, key, _value(rng, n, topic, key, epochs, offset)))
    return records


def _value(rng: random.Random, n: int, topic: str, key: bytes, epochs: dict[str, int], offset: int) -> bytes | None:
    kind = rng.random()
    if topic not in epochs or kind < 0.02:
        epochs.setdefault(topic, (CONFIG.generation << 44) | offset)
        body = encode_body(CreateTopic(topic_id=topic, name=topic, permissions="PUBLIC", owner_id="ann"))
        return encode_control(body, 0, keyed_id(key, "ann", f"create-{n}"))
    epoch = epochs[topic]
    if kind < 0.03:
        epochs.pop(topic)
        return encode_control(encode_body(DeleteTopic(topic)), epoch, keyed_id(key, "ann", f"delete-{n}"))
    if kind < 0.08:
        return rng.choice((b"{}", b'{"a": 1}', b"\xff\xfe", b"{", None, b"\xffHG\x00\x01\x09", b"[1,2]"))
    if kind < 0.10:
        return encode_control(encode_body(Probe()), 0)

    def item() -> Item:
        return Item(keyed_id(key, "p", str(rng.randrange(n // 2, n + 5))), rng.choice((0, KEYED)), tail(n))

    if kind < 0.3:
        return encode_bundle([item() for _ in range(rng.randrange(1, 20))], epoch)
    return encode_message(item(), epoch if kind < 0.95 else epoch - 1)


def decide(records: list[Record]) -> dict[str, Any]:
    """Applies a log to a fresh shard; returns what is compared."""
    shard, rows = Shard(), dict[bytes, Row]()
    verdicts, digests, frames = [], [], []
    for record, applied in apply_many(shard, rows, records):
        verdicts.append([[int(v.code), v.seq, v.epoch] for v in applied.verdicts])
        frames += [e.frame.decode() for e in applied.effects if isinstance(e, Deliver)]
        if record.offset % 100 == 0:
            digests.append(shard.digest.value.hex())
    return {
        "verdicts": verdicts,
        "digests": [*digests, shard.digest.value.hex()],
        "log_ms": shard.log_ms,
        "window": len(shard.window),
        "rows": {k.decode(): [r.epoch, r.seq] for k, r in sorted(rows.items())},
        "frames": [frames[0], frames[-1], len(frames)],
    }


def load(file: Path = FILE) -> tuple[list[Record], dict[str, Any]]:
    """Reads a golden file."""
    stored = json.loads(file.read_text())
    return [Record(o, t, _raw(k), _raw(v)) for o, t, k, v in stored["records"]], stored["decided"]


def _raw(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


def write(records: list[Record], decided: dict[str, Any], file: Path) -> None:
    """Writes a golden file."""
    stored = {"records": [[r.offset, r.ts, _text(r.key), _text(r.value)] for r in records], "decided": decided}
    file.write_text(json.dumps(stored, separators=(",", ":")) + "\n")
