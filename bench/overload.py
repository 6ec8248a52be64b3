"""Offered twice its highest rate for 10 s: what `headgate dev` takes meanwhile, and when it is as fast as before.

    python -m bench.overload                  the highest rate first, then twice that
    python -m bench.overload --highest 3000   that rate is known

The load of `bench.small`, with more publishers, who give up a batch that they could not send within a second of its
time. It exits with status 1 where a rule is broken: each message that was acknowledged reaches each of its sockets once
and in order; what is delivered meanwhile is at least 0.8 of the highest rate; each refusal of a request says when to
try again; and within 2 s of the end, at half the highest rate, p95 is below the limit of `bench.small` again. A run in
which the server or the load waited for its core says nothing, and ends with 1 too.
"""

import argparse
import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import uvloop

from bench.cpu import waited_s
from bench.small import BATCH, LIMIT_MS, SOCKETS, TOPICS, Batch, Follower, Publisher, Small, Turn, said

SECONDS = 10
TIMES = 2.0
SENDERS = 16  # requests under way at once, 1,600 messages: what has to be done at the end in any case
PATIENCE_S = 1.0
CALM_SECONDS = 8
SHARE = 0.8  # of the highest rate, delivered meanwhile
RECOVERED_S = 2
END_S = 20.0  # for what is under way at the end
MAX_WAITED = 0.1  # of the time: above it the cores had too much other work, and the run says nothing
_STATUS = re.compile(rb"http/1\.1 (\d+)")


class Answers:
    """What became of the messages: `acked` and `unknown` (504) by topic, `refused` by code.

    `bare` are the requests that were refused for a while without a Retry-After, `given_up` the messages never sent.
    """

    def __init__(self) -> None:
        self.acked: Counter[int] = Counter()
        self.unknown: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self.bare = 0
        self.given_up = 0

    def take(self, batch: Batch, head: bytes, answer: bytes) -> None:
        """Counts the results of a batch, or the refusal of all of it; `head` is in lower case."""
        told = json.loads(answer)
        status = int(_STATUS.match(head)[1])  # type: ignore[index]
        if status != 200:
            self.bare += status in (429, 503) and b"\r\nretry-after:" not in head
            told = {"results": [told] * BATCH}
        for at, result in enumerate(told["results"]):
            self._one((batch.first + at) % TOPICS, result)

    def give_up(self, batch: Batch) -> None:
        """Counts a batch that was never sent."""
        self.given_up += BATCH

    def _one(self, topic: int, result: dict[str, Any]) -> None:
        if result["status"] == 200:
            self.acked[topic] += 1
        elif result["code"] == "outcome_unknown":
            self.unknown[topic] += 1
        else:
            self.refused[result["code"]] += 1


def lost(followers: Sequence[Follower], answers: Answers) -> int:
    """Returns how many deliveries of acknowledged messages are missing; of those nobody knows of, none has to come.

    The followers have ended the bench already where one came twice or out of order.
    """
    return sum(max(answers.acked[topic] - seq, 0) for one in followers for topic, seq in one.seqs.items())


def made_up(followers: Sequence[Follower], answers: Answers) -> int:
    """Returns how many deliveries are of messages that were refused, or never sent."""
    known = answers.acked + answers.unknown
    return sum(max(seq - known[topic], 0) for one in followers for topic, seq in one.seqs.items())


def recovered(p95_ms: Sequence[float]) -> int | None:
    """Returns after how many seconds all later ones are below the limit, None where the last is not."""
    above = [second for second, p95 in enumerate(p95_ms) if p95 > LIMIT_MS]
    after = above[-1] + 1 if above else 0
    return after if after < len(p95_ms) else None


class Second(NamedTuple):
    """What came to the sockets in one second; p95 is infinite where nothing came."""

    delivered: int
    p95_ms: float


async def watch(followers: Sequence[Follower], seconds: int) -> list[Second]:
    """Returns what came in each of the next seconds."""
    found, count = [], sum(one.count for one in followers)
    begin = time.monotonic()
    for second in range(seconds):
        for one in followers:
            one.late.clear()
        await asyncio.sleep(max(begin + second + 1 - time.monotonic(), 0))
        late = sorted(ms for one in followers for ms in one.late)
        before, count = count, sum(one.count for one in followers)
        found.append(Second(count - before, late[int(len(late) * 0.95)] if late else float("inf")))
    return found


async def phase(turn: Turn, rate: float, seconds: int) -> list[Second]:
    """Offers a rate for so many seconds; returns what came in each."""
    begin = time.monotonic()
    offered = asyncio.ensure_future(turn.offer(begin, rate, int(rate * seconds / BATCH)))
    found = await watch(turn.followers, seconds)
    await offered
    return found


async def settle(turn: Turn, answers: Answers) -> None:
    """Waits until every message is answered and delivered, or nothing came for a second."""
    deadline, before = time.monotonic() + END_S, -1
    while time.monotonic() < deadline:
        count = sum(one.count for one in turn.followers)
        if count == before and turn.publisher.queue.empty() and not lost(turn.followers, answers):
            return
        before = count
        await asyncio.sleep(1.0)


async def highest() -> float:
    """Returns the highest rate with p95 below the limit, in messages a second."""
    turn = Turn(Small("dev"))
    try:
        await turn.prepare()
        await turn.load(1_000, 1.0)
        found = await turn.highest(1_000, 3.0)
        print(said("dev", found), flush=True)
        if found.p95_ms > LIMIT_MS:
            raise SystemExit("the lowest rate is above the limit: the machine is busy; try again, or give --highest")
        return found.rate
    finally:
        for sender in turn.senders:
            sender.cancel()
        turn.server.stop()


async def overload(rate: float) -> bool:
    """Offers twice a rate, then half of it; prints what came of it, and returns whether the rules were kept."""
    server, answers = Small("dev"), Answers()
    turn = Turn(server, Publisher(server.port, answers.take, PATIENCE_S, answers.give_up))
    try:
        await turn.prepare(SENDERS)
        await phase(turn, rate / 2, 2)  # warm
        waited = [waited_s(pid) for pid in (server.process.pid, os.getpid())]
        meanwhile = await phase(turn, TIMES * rate, SECONDS)
        acked = answers.acked.total()
        while not turn.publisher.queue.empty():  # the rush is over: nobody sends what had to wait
            answers.give_up(turn.publisher.queue.get_nowait())
        after = await phase(turn, rate / 2, CALM_SECONDS)
        waited = [waited_s(pid) - was for pid, was in zip((server.process.pid, os.getpid()), waited, strict=True)]
        await settle(turn, answers)
    finally:
        for sender in turn.senders:
            sender.cancel()
        server.stop()
    each = len(turn.followers[0].topics) * SOCKETS // TOPICS
    share = sum(second.delivered for second in meanwhile) / SECONDS / (rate * each)
    back = recovered([second.p95_ms for second in after])
    missing, extra = lost(turn.followers, answers), made_up(turn.followers, answers)
    shares = [one / (SECONDS + CALM_SECONDS) for one in waited]
    print("waited for a core: server {:.0%} of the time, load {:.0%}".format(*shares))
    print(f"offered {TIMES * rate:.0f} msg/s for {SECONDS} s, twice {rate:.0f}; acknowledged by then {acked}")
    print(f"of all: refused {dict(answers.refused)}, {answers.bare} requests without Retry-After")
    print(f"  outcome unknown {answers.unknown.total()}, given up by the publishers {answers.given_up}")
    print(f"delivered meanwhile {share:.2f} of the highest rate; p95 by second, ms:", *_rounded(meanwhile))
    print(f"p95 at half the rate, by second, ms: {' '.join(_rounded(after))}; below {LIMIT_MS:.0f} ms after {back} s")
    print("thousand deliveries by second:", *(f"{second.delivered / 1000:.0f}" for second in (*meanwhile, *after)))
    print(f"acknowledged deliveries lost {missing}, of messages that were refused {extra}, repeated 0")
    if max(shares) > MAX_WAITED:
        raise SystemExit("inconclusive: other processes use these cores")
    return share >= SHARE and back is not None and back <= RECOVERED_S and not (missing or extra or answers.bare)


def _rounded(seconds: Sequence[Second]) -> list[str]:
    return [f"{second.p95_ms:.0f}" for second in seconds]


async def run(rate: float | None) -> bool:
    """Finds the highest rate where it is not known, and offers more."""
    return await overload(rate or await highest())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--highest", type=float)
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    return int(not uvloop.run(run(parser.parse_args().highest)))


if __name__ == "__main__":
    raise SystemExit(main())
