"""What inboxes cost at the owner of the users' shard: memory of a row, and time of a page. `python -m bench.inbox_rows`

One core, no log: `--members` users of one topic, and users of `--topics` topics each, with a head, a cursor and a read
mark in every one.
"""

import argparse
import gc
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from bench.snapshots import resident
from headgate.core.inbox.inbox_pages import inbox_page, missed_page
from headgate.core.inbox.users import UserTopics
from headgate.core.wire.inbox_record import (
    HeadEntry,
    MembershipRecord,
    encode_cursor,
    encode_head,
    encode_inbox,
    encode_mark_entry,
    records_of_cursors,
    records_of_heads,
    records_of_marks,
)
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_inbox import PAGE_TOPICS, ReadMark
from headgate.core.wire.records import Record

EPOCH: Final = (1 << 44) | 1_764_200_000_000
NOW_MS: Final = 1_764_200_000_000
USERS: Final = 100  # of many topics


def applied(users: UserTopics, what: str, rows: int, records: Iterator[tuple[bytes | None, bytes]]) -> None:
    """Applies records; prints what a row costs."""
    gc.collect()
    before, started = resident(), time.thread_time()
    for key, value in records:
        users.apply(Record(users.next_offset, NOW_MS, key, value))
    spent = time.thread_time() - started
    gc.collect()
    print(f"{rows} {what}: {(resident() - before) / rows:.0f} bytes and {spent / rows * 1e6:.1f} us each")


def memberships(found: Iterator[tuple[str, str]]) -> Iterator[tuple[bytes | None, bytes]]:
    """Yields the records of memberships."""
    for at, (user, topic) in enumerate(found):
        yield user.encode(), encode_inbox(MembershipRecord(topic, EPOCH, at, "member", 1_000, 900, NOW_MS))


def joint(values: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes | None, bytes]]:
    """Yields records without a key."""
    return ((None, value) for value, _ in values)


def many(topics: int) -> Iterator[tuple[str, str]]:
    """Yields users and topics of users of many topics; every topic has one of them."""
    return ((f"user-{n:07}", f"topic-{n}-{at:05}") for n in range(USERS) for at in range(topics))


def page(what: str, build: Callable[[], Generator[None, None, Any]]) -> None:
    """Makes a page five times; prints the fastest, and its longest step."""
    best, longest, steps = float("inf"), 0.0, 0
    for _ in range(5):
        total, slowest, count, made = 0.0, 0.0, 0, build()
        while True:
            started = time.thread_time()
            done = next(made, made) is made
            step = time.thread_time() - started
            total, slowest, count = total + step, max(slowest, step), count + 1
            if done:
                break
        if total < best:
            best, longest, steps = total, slowest, count
    print(f"{what}: {best * 1e3:.1f} ms in {steps} steps, the longest {longest * 1e3:.2f} ms")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.inbox_rows", description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--topics", type=int, default=1_000)
    parser.add_argument("--most", type=int, default=100_000, help="topics of one user (100000)")
    asked = parser.parse_args()
    users, topics = UserTopics(), asked.topics
    one = ((f"member-{n:07}", "announcements") for n in range(asked.members))
    applied(users, "members of one topic", asked.members, memberships(one))
    rows = USERS * topics
    applied(users, f"memberships of users of {topics} topics", rows, memberships(many(topics)))
    heads = [encode_head(HeadEntry(topic, EPOCH, 2_000, 1_900, NOW_MS)) for _, topic in many(topics)]
    applied(users, "heads", rows, joint(records_of_heads(0, heads)))
    cursors = [encode_cursor(Cursor(user, "default", topic, EPOCH, 1_500)) for user, topic in many(topics)]
    applied(users, "cursors", rows, joint(records_of_cursors(cursors)))
    marks = [encode_mark_entry(ReadMark(user, topic, EPOCH, 1_500, 1_400)) for user, topic in many(topics)]
    applied(users, "read marks", rows, joint(records_of_marks(marks)))
    most = (("user-most", f"most-{at:06}") for at in range(asked.most))
    applied(users, "memberships of one user", asked.most, memberships(most))
    for user, count in (("user-0000001", topics), ("user-most", asked.most)):
        name = f"of a user of {count} topics"
        page(f"a page of 100 {name}", lambda user=user: inbox_page(users, user, "default", "", 100))  # type: ignore[misc]
        page(f"{PAGE_TOPICS} {name}", lambda user=user: inbox_page(users, user, "default", "", PAGE_TOPICS))  # type: ignore[misc]
        page(f"missed topics {name}", lambda user=user: missed_page(users, user, "default", (-1, ""), PAGE_TOPICS))  # type: ignore[misc]


if __name__ == "__main__":
    main()
