"""Joins and member lists of a very large topic over HTTP. `python -m bench.member_requests [--members 100000]`

One ingest and one dispatcher on Kafka. The members are written into the log at once; then users join at a fixed rate,
whether earlier joins have been answered or not, and admins read pages of the list. Latency counts from the planned
time. Exit status 1: a page takes more than 50 ms at 95 %, or the topic lacks a member.
"""

import argparse
import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Final

from bench.deployment import administrator, exit_status
from bench.latency import paced, quantile
from headgate.core.wire.control import Actor, SetMember, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import random_id, shard_of, topic_key
from headgate.core.wire.member_roles import Right
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, until
from tests.e2e.kafka_client import producer

TOPIC: Final = "crowd"
SHARDS: Final = 4
PAGE: Final = 100
PAGE_MS: Final = 50.0
AT_ONCE: Final = 5_000  # records given to the producer before it is waited for
ADMIN: Final = Actor("root", int(Right.ALL))
MEMBERS: Final = f"/api/v1/topics/{TOPIC}/members"


async def fill(deployment: Deployment, epoch: int, members: int) -> None:
    """Appends the records of `members` joins."""
    key, log = topic_key(TOPIC), f"{deployment.prefix}.messages"
    async with producer(deployment.bootstrap) as client:
        for begin in range(0, members, AT_ONCE):
            sent = []
            for n in range(begin, min(begin + AT_ONCE, members)):
                body = encode_body(SetMember(TOPIC, f"user-{n:07}", "member", ADMIN))
                value = encode_control(body, epoch, random_id(key, secrets.token_bytes(12)))
                sent.append(await client.send(log, value, key, partition=shard_of(key, SHARDS)))
            await asyncio.gather(*sent)


async def filled(deployment: Deployment, admin: Publisher, members: int, settings: Mapping[str, object]) -> float:
    """Creates the topic with so many members; returns the seconds from their records to the last of them."""
    answer = await admin.create(TOPIC, settings=settings)
    assert answer.status == 201, answer
    await fill(deployment, answer.body["epoch"], members)

    async def all_in() -> bool:
        found = await admin.call("GET", f"/api/v1/topics/{TOPIC}")
        return found.status == 200 and bool(found.body["member_count"] > members)

    return await until("all members are in", all_in, 300, 0.2)


async def joins(publisher: Publisher, first: int, options: argparse.Namespace) -> list[float]:
    """Puts new members in at a rate, from number `first` on; returns milliseconds from the planned time."""
    ended: dict[int, float] = {}

    async def join(n: int) -> None:
        answer = await publisher.call("PUT", f"{MEMBERS}/joined-{first + n:07}")
        assert answer.status == 200, answer
        ended[n] = time.perf_counter()

    due = await paced(options.rate, options.seconds, join)
    return [(ended[n] - at) * 1e3 for n, at in due.items()]


async def pages(publisher: Publisher, count: int) -> list[float]:
    """Reads pages one after the other; returns the milliseconds of each."""
    times: list[float] = []
    query: dict[str, object] = {"limit": PAGE}
    for _ in range(count):
        answer = await publisher.call("GET", MEMBERS, **query)
        assert answer.status == 200, answer
        assert len(answer.body["members"]) == PAGE
        times.append(answer.took_s * 1e3)
        query["page"] = answer.body["next_page"]
    return times


async def measure(deployment: Deployment, options: argparse.Namespace) -> bool:
    """Prints the figures; says whether the aims are met."""
    await deployment.start(SHARDS)
    (dispatcher,) = deployment.dispatchers
    async with administrator(deployment) as publisher:
        epoch = (await publisher.create(TOPIC)).body["epoch"]
        small = await joins(publisher, 0, options)
        done = len(small)
        await fill(deployment, epoch, options.members)

        async def count() -> int:
            answer = await publisher.call("GET", f"/api/v1/topics/{TOPIC}")
            return int(answer.body["member_count"]) if answer.status == 200 else 0

        wanted: int = 1 + done + options.members

        async def all_in() -> bool:
            return await count() >= wanted

        took = await until("all members are in", all_in, 300, 0.2)
        await asyncio.sleep(options.settle)
        print(f"{options.members} joins applied {took:.1f} s after they were written")
        for what, name in ((small, "new topic"), (await joins(publisher, done, options), "large topic")):
            print(
                f"{len(what)} joins at {options.rate:g}/s, {name}: p50 {quantile(what, 0.5):.1f} ms, "
                f"p95 {quantile(what, 0.95):.1f} ms"
            )
        times = await pages(publisher, options.pages)
        p95 = quantile(times, 0.95)
        print(f"{len(times)} pages of {PAGE}: p50 {quantile(times, 0.5):.1f} ms, p95 {p95:.1f} ms")
        dispatcher.sigterm()
        await dispatcher.ended(60)
        dispatcher.start()
        ready = await dispatcher.ready()
        wanted += done
        back = await until("the members are restored", all_in, 60)
        print(f"drained and started again: ready after {ready:.1f} s, the whole topic {back:.2f} s later")
        found = await count()
        return p95 <= PAGE_MS and found == wanted


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.member_requests", description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--settle", type=float, default=15, help="seconds between the fill and the joins")
    parser.add_argument("--pages", type=int, default=300)
    return exit_status(measure, parser.parse_args(), gateways=0, settings={})


if __name__ == "__main__":
    raise SystemExit(main())
