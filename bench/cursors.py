"""What the cursors of devices cost at the owner of their users' shard. `python -m bench.cursors`

One core, no log: `--cursors` users, each with one device in one topic; all of them move once a second, as gateways
send them.
"""

import argparse
import gc
import time
from typing import Final

from bench.snapshots import CONFIG, placed, resident, run
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import restoring
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.inbox_record import encode_cursor, records_of_cursors
from headgate.core.wire.link_acks import MAX_CURSORS, Cursor
from headgate.core.wire.records import Record

EPOCH: Final = (1 << 44) | 1_764_200_000_000
TOPICS: Final = 500


def cursor(n: int, seq: int) -> Cursor:
    """Returns the cursor of user `n`; ids of usual length."""
    return Cursor(f"user-{n:07}", "default", f"topic-{n % TOPICS:04}", EPOCH, seq)


def moved(users: UserTopics, writer: SnapshotWriter, cursors: int, seq: int) -> None:
    """Moves all cursors; prints what a cursor costs, from the link to the row."""
    started = time.thread_time()
    records = bytes_ = 0
    for at in range(0, cursors, MAX_CURSORS):
        entries = [encode_cursor(cursor(n, seq)) for n in range(at, min(at + MAX_CURSORS, cursors))]
        for value, _ in records_of_cursors(entries):
            records, bytes_ = records + 1, bytes_ + len(value)
            for key in users.apply(Record(users.next_offset, 1_764_200_000_000 + seq, None, value)).keys:
                writer.touch(PairKey(key))
    spent = time.thread_time() - started
    print(
        f"{cursors} cursors: {spent / cursors * 1e6:.1f} us each, {records} records, {bytes_ / cursors:.0f} bytes each"
    )


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.cursors", description=__doc__)
    parser.add_argument("--cursors", type=int, default=100_000)
    cursors = parser.parse_args().cursors
    shard, rows, users = Shard(), dict[bytes, Row](), UserTopics()
    shard.config = CONFIG
    writer = SnapshotWriter(users)
    gc.collect()
    before = resident()
    for n in range(cursors):
        users.apply(Record(n, 1_764_200_000_000, None, *_record(n)))
    print(f"{(resident() - before) / cursors:.0f} bytes a cursor")
    for seq in (2, 3):
        moved(users, writer, cursors, seq)
    base, _ = run("base", writer.base(shard, rows, 0))
    print(f"{sum(map(len, base)) / cursors:.0f} bytes a cursor in a base")
    restored = UserTopics()
    run("restore", restoring(placed(base), restored))
    assert len(restored.cursors) == len(users.cursors) == cursors


def _record(n: int) -> list[bytes]:
    return [value for value, _ in records_of_cursors([encode_cursor(cursor(n, 1))])]


if __name__ == "__main__":
    main()
