"""What the members of a large topic cost: joins, snapshots, pages, a deletion, memory. `python -m bench.members`

One core, no log: one topic with `--members` members, the user's side of as many memberships beside it.
"""

import argparse
import asyncio
import gc
import time
from typing import Final

from bench.snapshots import CONFIG, placed, resident, run
from dispatcher.pointers import Pointers
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.effects import TopicDeleted
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import restoring
from headgate.core.sequencer.snapshot_writer import MemberKey, SnapshotWriter
from headgate.core.wire.control import LOGIC, Actor, CreateTopic, DeleteTopic, SetMember, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import random_id
from headgate.core.wire.inbox_record import MembershipRecord, encode_inbox
from headgate.core.wire.member_roles import Right
from headgate.core.wire.records import Appended, LogName, Record

ADMIN: Final = Actor("root", int(Right.ALL))
PAGE: Final = 100
DELTA: Final = 1_000  # joins of the delta that is measured
SNAPSHOT: Final = 20_000  # changes between two snapshots of a dispatcher


class Topic:
    """A shard with one topic."""

    def __init__(self) -> None:
        self.shard, self.rows, self.users = Shard(), dict[bytes, Row](), UserTopics()
        self.shard.config, self.shard.logic = CONFIG, LOGIC
        self.writer = SnapshotWriter(self.users)
        self.offset = 0
        self.apply(CreateTopic("t", "t", "PRIVATE", "owner"))

    def apply(self, control: CreateTopic | DeleteTopic | SetMember) -> TopicDeleted | None:
        """Applies one record, as its owner does."""
        row = self.rows.get(b"t")
        value = encode_control(
            encode_body(control), 0 if row is None else row.epoch, random_id(b"t", b"%012d" % self.offset)
        )
        record = Record(self.offset, 1_700_000_000_000 + self.offset, b"t", value)
        self.offset += 1
        gone = None
        for _, applied in apply_many(self.shard, self.rows, [record]):
            for effect in applied.effects:
                self.writer.touch(b"t")
                if isinstance(control, SetMember):
                    self.writer.touch(MemberKey(b"t", control.user_id))
                gone = effect if isinstance(effect, TopicDeleted) else gone
        return gone

    def join(self, n: int) -> float:
        """Lets user `n` join; returns the CPU seconds of it."""
        control = SetMember("t", user(n), "member", ADMIN)
        started = time.thread_time()
        self.apply(control)
        return time.thread_time() - started


class Sink:
    """An inbox log that takes everything at once, and counts it."""

    def __init__(self) -> None:
        self.appends = 0

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes) -> "asyncio.Future[Appended]":
        """Acknowledges a record."""
        self.appends += 1
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        future.set_result(Appended(0, 0))
        return future


def user(n: int) -> str:
    """Returns a user id of usual length; neighbours do not join one after the other."""
    return f"user-{n * 7_919 % 1_000_003:07}"


def joins(topic: Topic, members: int) -> None:
    """Fills the topic; prints what a join costs and what a member weighs."""
    before, times = resident(), []
    for n in range(members):
        times.append(topic.join(n))
        if n % SNAPSHOT == 0:
            for _ in topic.writer.delta(topic.shard, topic.rows):
                pass
    times.sort()
    p50, p95 = (times[int(len(times) * part)] * 1e6 for part in (0.5, 0.95))
    weight = (resident() - before) / members
    print(f"{members} joins: p50 {p50:.0f} us, p95 {p95:.0f} us, longest {times[-1] * 1e3:.1f} ms")
    print(f"{weight:.0f} bytes a member with the id of the record")


def alone(members: int) -> None:
    """Prints what the members alone weigh."""
    topic = Topic()
    for n in range(2):
        topic.join(members + n)
    found = topic.shard.members[b"t"]
    one = found.get(user(members))
    assert one is not None
    before = resident()
    for n in range(members):
        found.put(user(n), one)
    print(f"{(resident() - before) / members:.0f} bytes a member in the topic's members")


def users_side(topic: Topic, members: int) -> None:
    """Prints what the memberships cost in the shard of their users."""
    made = 1_700_000_000_000
    values = [encode_inbox(MembershipRecord("t", 1 << 44, n, "member", n, n, made + n)) for n in range(members)]
    before = resident()
    started = time.thread_time()
    for n, value in enumerate(values):
        topic.users.apply(Record(n, 1, user(n).encode(), value))
    spent, weight = time.thread_time() - started, resident() - before
    print(f"user's side: {spent / members * 1e6:.1f} us a record, {weight / members:.0f} bytes a membership")


def snapshots(topic: Topic, members: int) -> None:
    """A base, a delta of some joins, a restore."""
    base, _ = run("base", topic.writer.base(topic.shard, topic.rows, 0))
    for n in range(DELTA):
        topic.join(members + n)
    delta, _ = run("delta", topic.writer.delta(topic.shard, topic.rows))
    print(f"{sum(map(len, delta)) / DELTA:.0f} bytes a join in a delta of {DELTA}, whatever the topic's size")
    _, (shard, _) = run("restore", restoring(placed([*base, *delta]), UserTopics()))
    assert shard.members[b"t"].count == members + DELTA + 1


def pages(topic: Topic) -> None:
    """Prints what a page of the list costs."""
    row, times, after = topic.rows[b"t"], [], ""
    while True:
        started = time.thread_time()
        page = topic.shard.members_above(b"t", row, after, PAGE)
        times.append(time.thread_time() - started)
        if len(page) < PAGE:
            break
        after = page[-1][0]
    times.sort()
    print(f"page of {PAGE}: p95 {times[int(len(times) * 0.95)] * 1e6:.0f} us")


async def deletion(topic: Topic) -> None:
    """Deletes the topic; prints what the end of its memberships costs."""
    started = time.thread_time()
    gone = topic.apply(DeleteTopic("t"))
    assert gone is not None
    assert gone.members is not None
    sink = Sink()
    pointers = Pointers(sink, 0, 64, {}, {})  # type: ignore[arg-type]  # only appends
    pointers.deleted(b"t", gone)
    await pointers.safe()
    pause = time.thread_time() - started
    print(f"deletion: {gone.members.count} members, {sink.appends} records, {pause * 1e3:.1f} ms")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.members", description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    members = parser.parse_args().members
    alone(members)
    topic = Topic()
    joins(topic, members)
    pages(topic)
    users_side(topic, members)
    gc.freeze()  # as a restored shard has it: `headgate.runtime.process` freezes what is there at the start
    snapshots(topic, members)
    asyncio.run(deletion(topic))


if __name__ == "__main__":
    main()
