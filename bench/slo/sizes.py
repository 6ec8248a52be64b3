"""The run `sizes`: bytes of a message in Kafka and in the index, and of a member.

bench/capacity.py computes with the sizes of single parts; this measures them where they lie, on a whole deployment.
"""

import asyncio
import base64
import random
from collections import Counter
from pathlib import Path
from typing import Final

from bench.log_dirs import topic_bytes
from bench.slo.place import RATES, Place, dues, open_loop, progress, resident_of
from bench.slo.rows import Found
from bench.slo.sums import DAY

AVERAGE: Final = 578.0  # messages a second: 50 M a day
SECONDS: Final = 40.0
TOPICS: Final = 100
PAYLOAD: Final = 1_024 - len('{"at":1764200000.1234567,"v":""}')
MEMBERS: Final = 20_000


async def sizes(place: Place) -> list[Found]:
    """1 KB messages at 578 a second, and members over HTTP."""
    empty = _index_bytes(place)
    log_bytes, all_bytes, count, per_log = await _messages(place)
    members, member_bytes = await _members(place)
    for dispatcher in place.deployment.dispatchers:  # what is in write-ahead logs goes into the index files
        dispatcher.sigterm()
        assert await dispatcher.ended(60) == 0, dispatcher.errors()[-1_000:]
    index_bytes = (_index_bytes(place) - empty) / count
    day = DAY * (all_bytes + index_bytes) / 1e9
    return [
        Found("log_bytes", round(log_bytes), f"a 1,024-byte payload in Kafka, one copy; {per_log}"),
        Found("index_bytes", round(index_bytes), f"index files of the dispatcher; {per_log}"),
        Found("log_day_gb", round(day, 1), f"all logs in one copy and the index files; {per_log}"),
        Found("member_bytes", round(member_bytes), f"resident memory of the dispatcher; {members:,} members"),
    ]


async def _messages(place: Place) -> tuple[float, float, int, str]:
    """Returns bytes a message in the messages log and in all logs, how many there were, and a text with each log."""
    topics = [f"sizes-{n}" for n in range(TOPICS)]
    for topic in topics:
        answer = await place.admin.create(topic, settings=RATES)
        assert answer.status == 201, answer
    rng = random.Random(1)  # text that cannot be compressed
    values = [base64.b64encode(rng.randbytes(PAYLOAD)).decode()[:PAYLOAD] for _ in range(64)]

    async def one(n: int, due: float) -> None:
        answer = await place.admin.publish(topics[n % TOPICS], {"at": round(due, 7), "v": values[n % len(values)]})
        assert answer.status == 200, answer

    due = dues((AVERAGE, max(5.0, SECONDS * place.scale)))
    logs = await topic_bytes(place.deployment.bootstrap)
    await open_loop("sizes", due, one)
    grown = await topic_bytes(place.deployment.bootstrap)
    grown.subtract(logs)
    published = [len(range(n, len(due), TOPICS)) for n in range(TOPICS)]
    numbered = [await place.seq(topic, count) for topic, count in zip(topics, published, strict=True)]
    assert numbered == published, f"{sum(numbered)} messages of {len(due)}"
    prefix, count = place.deployment.prefix, len(due)
    own = Counter({name.removeprefix(f"{prefix}."): size for name, size in grown.items() if name.startswith(prefix)})
    each = ", ".join(f"{name} {size / count:,.0f}" for name, size in own.most_common() if size)
    text = f"{count:,} messages at {AVERAGE:g}/s; bytes a message in each log: {each}"
    return own["messages"] / count, own.total() / count, count, text


def _index_bytes(place: Place) -> int:
    """Returns the size of all index files."""
    folders: list[Path] = [place.deployment.index(dispatcher) for dispatcher in place.deployment.dispatchers]
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*.db"))


async def _members(place: Place) -> tuple[int, float]:
    """Returns how many members were added, and what one costs the dispatcher."""
    topics, count = await place.topics("members", 10), max(500, round(MEMBERS * place.scale))
    before, left = 0, iter(range(-count // 10, count))  # the first tenth is not measured

    async def worker() -> None:
        nonlocal before
        for n in left:
            before = resident_of(place.deployment.dispatchers) if n == 0 else before
            path = f"/api/v1/topics/{topics[n % len(topics)]}/members/user-{n}"
            answer = await place.admin.call("PUT", path, {"role": "subscriber"})
            assert answer.status == 200, answer

    await asyncio.gather(*(worker() for _ in range(32)))
    grown = resident_of(place.deployment.dispatchers) - before
    answers = [await place.admin.call("GET", f"/api/v1/topics/{topic}/members", limit=1) for topic in topics]
    total, wanted = sum(answer.body["count"] for answer in answers), count + -(-count // 10)
    assert wanted <= total <= wanted + len(topics), f"{total} members of {wanted}"  # an owner may be a member
    progress(f"{total:,} members")
    return count, 1_024 * grown / count
