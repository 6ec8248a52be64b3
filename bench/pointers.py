"""What pointers cost. `python -m bench.pointers [--members 100000] [--topics 100] [--messages 20000]`

Appends to the inbox log, per message, of one topic with many members and 10 messages a second; and the CPU time of the
owner a message, single records, with topics that have only their creator: the common case. The share of the pointers is
the difference to the same owner whose pointers do nothing; the aim is at most 5 % (exit status 1 else).
"""

import argparse
import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

from bench.members import Sink
from dispatcher.pointers import Pointers
from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.rows import Row
from headgate.core.wire.control import Config, CreateTopic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import random_id, user_shard
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import Record
from tests.dispatcher.bed import configured_shard, owner_of

SHARDS: Final = 64
SECONDS: Final = 3
RATE: Final = 10  # messages a second of the large topic
SLICE: Final = 200  # records that are taken at a time, as a reader gives them to a busy owner
ROUNDS: Final = 5
SHARE: Final = 0.05


async def large(members: int, heat: str) -> None:
    """Prints the records of one topic with many members."""
    row = Row("t", 7, 0, "t", "PUBLIC", "ann", 1, {}, heat=heat)
    found = Members(7)
    for n in range(members):
        found.put(f"user-{n}", Membership(Role.MEMBER, 0, 0, 1))
    sink = Sink()
    pointers = Pointers(sink, 0, SHARDS, {b"t": row}, {b"t": found})  # type: ignore[arg-type]  # only appends
    started = time.process_time()
    for _ in range(SECONDS * RATE):
        row.seq += 1
        pointers.moved(b"t", row.seq)
        await asyncio.sleep(1 / RATE)
    await pointers.safe()
    count, spent = SECONDS * RATE, time.process_time() - started
    per_message, cpu = sink.appends / count, spent / count * 1e6
    who = f"{members:,} members, {RATE} messages/s, {heat or 'direct'}"
    print(f"{who}: {per_message:.1f} records a message, {cpu:.0f} us of CPU")


def records_of(topics: int, messages: int) -> list[Record]:
    """Returns the creations of topics, each by somebody else, and messages round robin over them."""
    body = b'"publisher_id":"bench","payload":{"text":"%s"}}' % (b"x" * 100)
    found: list[Record] = []
    epochs = []
    for n in range(topics):
        name = f"topic-{n}"
        create = encode_control(
            encode_body(CreateTopic(name, name, "PUBLIC", f"user-{n}")), 0, random_id(b"k", b"e" * 12)
        )
        epochs.append((1 << 44) | n)
        found.append(Record(n, 1_000, name.encode(), create))
    for n in range(messages):
        key = b"topic-%d" % (n % topics)
        item = Item(random_id(key, n.to_bytes(12, "big")), 0, body)
        found.append(Record(topics + n, 1_000 + n // 10, key, encode_message(item, epochs[n % topics])))
    return found


async def owner_us(records: list[Record], topics: int, change: Callable[[Pointers], None]) -> float:
    """Returns the CPU time of an owner a message, in microseconds."""
    shard = configured_shard()
    shard = shard._replace(config=Config(cluster_id="c", generation=1, shards=SHARDS, shard=0))
    owner = owner_of(shard, log=Sink())
    owner.take(records[:topics])
    await owner.pointers.safe()
    change(owner.pointers)
    gc.collect()
    gc.freeze()
    started, at = time.process_time(), topics
    while at < len(records):
        owner.take(records[at : at + SLICE])
        at += SLICE
        await owner.pointers.room()
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    spent = time.process_time() - started
    while owner.history.write():
        pass
    owner.pointers.close()
    owner.outputs.close()
    return spent / (len(records) - topics) * 1e6


def nothing(pointers: Pointers) -> None:
    """Makes the pointers do nothing."""
    pointers.moved = lambda key, ts: None  # type: ignore[method-assign]  # the bench's own measure


async def small(topics: int, messages: int) -> bool:
    """Prints what messages of topics without members cost; says whether the aim is met."""
    records = records_of(topics, messages)
    without, having = [], []
    for _ in range(ROUNDS):
        without.append(await owner_us(records, topics, nothing))
        having.append(await owner_us(records, topics, lambda pointers: None))
    shards = {user_shard(f"user-{n}", SHARDS) for n in range(topics)}
    low, high = min(without), min(having)
    share = high / low - 1
    print(f"{topics:,} topics with their creators, in {len(shards)} shards: {high:.1f} us a message, {low:.1f} without")
    print(f"the pointers' share is {share:.1%}")
    return share <= SHARE


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.pointers", description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    for heat in ("", "inbox"):
        asyncio.run(large(options.members, heat))
    return 0 if asyncio.run(small(options.topics, options.messages)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
