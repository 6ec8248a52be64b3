"""A user of very many topics asks for his inbox and comes back. `python -m bench.inbox [--topics 1000]`

One ingest and two dispatchers on Kafka, over HTTP. The first page of `GET /inbox` is timed beside a question for one
topic (one answer of one owner) in turn: the difference is the price of the page. Then a device that has missed
`--missed` messages of `--behind` topics reads and acknowledges until nothing is left; each must come once.
Exit status 1: a message is missing, repeated or out of order.
"""

import argparse
import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

from bench.deployment import administrator, exit_status
from bench.latency import quantile
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, token

USER: Final = "collector"
DEVICE: Final = "phone"
SETTLE_S: Final = 3.0
ACKS: Final = 16  # under way at once
BATCH: Final = 1_000


async def fill(root: Publisher, topics: list[str], behind: list[str], missed: int) -> None:
    """Creates the topics, puts the user into each, publishes what he misses."""
    await root.create_all(topics)
    gate = asyncio.Semaphore(ACKS)

    async def join(topic: str) -> None:
        async with gate:
            answer = await root.call("PUT", f"/api/v1/topics/{topic}/members/{USER}", {"role": "member"})
            assert answer.status == 200, answer

    await asyncio.gather(*map(join, topics))
    items: list[dict[str, object]] = [{"topic_id": behind[n % len(behind)], "payload": {"n": n}} for n in range(missed)]
    for at in range(0, missed, BATCH):
        results = await root.batch(items[at : at + BATCH])
        assert all(result["status"] == 200 for result in results), results[:2]


async def pages(user: Publisher, topic: str, count: int) -> None:
    """Prints what a page takes, and a question for one topic."""
    page: list[float] = []
    one: list[float] = []
    for _ in range(count):
        answer = await user.call("GET", "/api/v1/inbox", device_id=DEVICE)
        assert answer.status == 200, answer
        page.append(answer.took_s * 1e3)
        answer = await user.call("GET", f"/api/v1/topics/{topic}")
        assert answer.status == 200, answer
        one.append(answer.took_s * 1e3)
    for what, times in (("GET /inbox, first page", page), ("GET /topics/{id}", one)):
        print(
            f"{count} times {what}: p50 {quantile(times, 0.5):.1f} ms, p95 {quantile(times, 0.95):.1f} ms", flush=True
        )


async def whole(user: Publisher) -> list[dict[str, Any]]:
    """Returns the whole inbox, by its pages."""
    found: list[dict[str, Any]] = []
    query: dict[str, object] = {"device_id": DEVICE, "limit": 1_000}
    while True:
        answer = await user.call("GET", "/api/v1/inbox", **query)
        assert answer.status == 200, answer
        found += answer.body["topics"]
        if not answer.body.get("next_page"):
            return found
        query["page"] = answer.body["next_page"]


async def come_back(user: Publisher, limit: int) -> tuple[list[tuple[str, int]], int, int]:
    """Reads and acknowledges until nothing is left; returns what came, and the requests for pages and marks."""
    got: list[tuple[str, int]] = []
    gets = acks = 0
    gate = asyncio.Semaphore(ACKS)

    async def ack(topic: str, seq: int) -> None:
        async with gate:
            body = {"device_id": DEVICE, "topic_id": topic, "seq": seq, "kind": "delivered"}
            answer = await user.call("POST", "/api/v1/inbox/ack", body)
            assert answer.status == 204, answer

    while True:
        answer = await user.call("GET", "/api/v1/inbox/messages", device_id=DEVICE, limit=limit)
        assert answer.status == 200, answer
        gets += 1
        page = [(frame["topic_id"], frame["seq"]) for frame in answer.body["messages"]]
        got += page
        newest = dict(page)  # ascending in a topic: the last wins
        await asyncio.gather(*(ack(topic, seq) for topic, seq in newest.items()))
        acks += len(newest)
        if not page and not answer.body["more"]:
            return got, gets, acks


def in_order(got: Iterable[tuple[str, int]], behind: list[str], missed: int) -> bool:
    """Says whether each message of each topic came once, in its order."""
    by_topic: dict[str, list[int]] = {}
    for topic, seq in got:
        by_topic.setdefault(topic, []).append(seq)
    sizes = {topic: len(range(n, missed, len(behind))) for n, topic in enumerate(behind)}
    return by_topic == {topic: list(range(1, size + 1)) for topic, size in sizes.items() if size}


async def measure(deployment: Deployment, options: argparse.Namespace) -> bool:
    """Prints the figures; says whether everything came once."""
    await deployment.start(8)
    url = deployment.ingests[0].url
    topics = [f"topic-{n:05}" for n in range(options.topics)]
    behind = topics[:: max(len(topics) // options.behind, 1)][: options.behind]
    async with administrator(deployment) as admin, Publisher(url, token(USER, service=True)) as user:
        await fill(admin, topics, behind, options.missed)
        await asyncio.sleep(SETTLE_S)
        found = await whole(user)
        unread = sum(entry["unread"] for entry in found)
        print(f"{len(found)} topics in the inbox, {unread} messages unread", flush=True)
        await pages(user, topics[0], options.pages)
        begun = time.monotonic()
        got, gets, acks = await come_back(user, options.limit)
        took = time.monotonic() - begun
        print(
            f"reconnect: {len(got)} messages of {len(behind)} topics in {took:.2f} s, {gets} requests for messages "
            f"(limit {options.limit}) and {acks} acknowledgements",
            flush=True,
        )
        return len(found) == len(topics) and unread == options.missed and in_order(got, behind, options.missed)


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.inbox", description=__doc__)
    parser.add_argument("--topics", type=int, default=1_000)
    parser.add_argument("--behind", type=int, default=200)
    parser.add_argument("--missed", type=int, default=1_000)
    parser.add_argument("--limit", type=int, default=200, help="of a page of messages")
    parser.add_argument("--pages", type=int, default=300)
    return exit_status(measure, parser.parse_args(), dispatchers=2, gateways=0, settings={})


if __name__ == "__main__":
    raise SystemExit(main())
