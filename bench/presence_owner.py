"""What presence of one topic of 100,000 users costs its owner: memory, and the CPU of each step that blocks the loop.

python -m bench.presence_owner [--users 100000]
"""

import argparse
import gc
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

from headgate.core.sequencer.topic_presence import PresenceTopics
from headgate.core.wire.link_presence import TopicUsers, UserPresence

CHUNK = 1_000  # of a gateway's announcement


def timed(step: Callable[[], object]) -> float:
    """Returns the CPU milliseconds of a step."""
    begin = time.process_time()
    step()
    return (time.process_time() - begin) * 1e3


def announcements(users: int) -> Iterator[TopicUsers]:
    """Yields a topic's users as one gateway announces them, in no order of time."""
    order = list(range(users))
    random.Random(1).shuffle(order)
    for at in range(0, users, CHUNK):
        part = [UserPresence(f"user-{n:08d}", 1, n) for n in order[at : at + CHUNK]]
        yield TopicUsers("t", 1, part)


def main() -> None:
    """Reads the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    users = parser.parse_args().users
    tracemalloc.start()
    topics: PresenceTopics[str] = PresenceTopics(1_000)
    for message in announcements(users):
        topics.take("g", message)
    print(f"memory: {tracemalloc.get_traced_memory()[0] / users:.0f} bytes a user, id included")
    tracemalloc.stop()
    gc.collect()
    topics = PresenceTopics(1_000)
    taken = [timed(partial(topics.take, "g", message)) for message in announcements(users)]
    topic = topics.open("t", 1)
    print(f"announcement of {CHUNK:,} users: mean {sum(taken) / len(taken):.1f} ms, longest {max(taken):.1f} ms")
    print(f"the oldest 1,000 found among {users:,}: {timed(topic.list_oldest):.1f} ms")
    print(f"state of 1,000 for a gateway that begins to watch: {timed(topic.begin_telling):.1f} ms")
    again = [timed(partial(topics.take, "g", message)) for message in announcements(users)]
    print(f"the same {CHUNK:,} users announced again: longest {max(again):.1f} ms")
    topics.begin("g")
    sweep, slices = topics.end("g"), list[float]()
    while topic.count:
        slices.append(timed(lambda: (next(sweep, None), topic.take_changes())))
    print(f"a gateway with all {users:,} that died: {len(slices)} slices, longest {max(slices):.1f} ms")


if __name__ == "__main__":
    main()
