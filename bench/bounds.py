"""What a bounded structure costs at its bound. `python -m bench.bounds [--operations 1000000] [--only NAME]`

Each structure takes operations until it is full and then as many more as were asked for, at most SECONDS of CPU. Two
figures: CPU microseconds an operation before the bound, and the worst chunk of CHUNK operations behind it. Exit status
1 when a structure costs more than WORSE times as much at its bound.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from bench.engine import BareLink
from dispatcher.dispatcher_options import DEFAULT_HISTORY
from dispatcher.history import History
from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from headgate.core.client.limits import Limits
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.flush import Flush
from headgate.core.fanout.ports import Moment
from headgate.core.fanout.session import TopicFeed
from headgate.core.publish.recent_publishes import MAX_KNOWN, MAX_UNRESOLVED, LogPlace, RecentPublishes
from headgate.core.sequencer.digest import Digest
from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.recent_verdicts import KEPT_MESSAGES, RecentVerdicts
from headgate.core.sequencer.routes import Routes
from headgate.core.sequencer.window import Window
from headgate.core.wire.control import Config
from headgate.core.wire.rights import Caller
from headgate.core.wire.token_buckets import MAX_BUCKETS, Rate, TokenBuckets
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.metrics import Metrics
from headgate.runtime.system import SystemClock
from headgate.runtime.tokens import MAX_CACHED, Authenticator, TokenKey, mint

CHUNK: Final = 10_000
SECONDS: Final = 10.0
WORSE: Final = 2.5  # a full dict costs a little more than a growing one: cache misses
SECRET: Final = "a-secret-of-the-bench-with-32-bytes!"

Operation = Callable[[int], object]


class Case(NamedTuple):
    """`bound` operations fill it; `make` returns what one operation is."""

    bound: int
    make: Callable[[], Operation]


class Cost(NamedTuple):
    """CPU microseconds an operation; `done` operations were made behind the bound."""

    before: float
    behind: float
    worst: float
    done: int


def measure(case: Case, operations: int) -> Cost:
    """Fills the structure and goes on behind its bound."""
    step = case.make()
    middle = case.bound // 2
    for n in range(middle):
        step(n)
    started = time.process_time()
    for n in range(middle, case.bound):
        step(n)
    before = (time.process_time() - started) / (case.bound - middle) * 1e6
    chunks: list[float] = []
    done, spent = 0, 0.0
    while done < operations and spent < SECONDS:
        started = time.process_time()
        for n in range(case.bound + done, case.bound + done + CHUNK):
            step(n)
        took = time.process_time() - started
        spent += took
        done += CHUNK
        chunks.append(took / CHUNK * 1e6)
    return Cost(before, spent / done * 1e6, max(chunks), done)


def _id(n: int) -> bytes:
    return blake2b(n.to_bytes(8), digest_size=16).digest()  # spread as real ids are


def _verdicts(items: int) -> Callable[[], Operation]:
    def make() -> Operation:
        verdicts = RecentVerdicts()
        return lambda n: verdicts.put(n, [Verdict(Code.ACCEPTED, n * items + i, 1) for i in range(items)])

    return make


def _answers() -> Operation:
    answers = RecentPublishes()

    def step(n: int) -> None:
        key = (1, _id(n))
        entry = answers.attempt(key, b"fingerprint", None, 0.0)
        answers.acknowledged(key, entry, LogPlace(0, n, 0), 0.0)

    return step


def _unresolved() -> Operation:
    answers = RecentPublishes()

    def step(n: int) -> None:
        key = (1, _id(n))
        answers.unknown(key, answers.attempt(key, b"fingerprint", None, 0.0), 0.0)

    return step


def _buckets() -> Operation:
    buckets, rate = TokenBuckets(), Rate(1_000.0, 1_000.0)

    def step(n: int) -> None:
        key = f"u:{n % (MAX_BUCKETS * 5 // 4)}"
        buckets.wait(key, rate, n * 1e-6)
        buckets.take(key, rate, n * 1e-6)

    return step


def _tokens() -> Operation:
    authenticator = Authenticator("jwt", TokenKey(SECRET), SystemClock())
    now_s = time.time()
    return lambda n: authenticator.authenticate(mint(TokenKey(SECRET), Caller(f"u{n}"), now_s=now_s, ttl_s=3_600.0))


def _window(keyed: bool, items: int) -> Callable[[], Operation]:
    def make() -> Operation:
        window, config = Window(), Config(cluster_id="c", generation=1, shards=1, shard=0)

        def step(n: int) -> None:
            offset, log_ms = n // items, n // 100  # 100,000 messages a second of log time
            if n % items == 0:
                window.enter(log_ms, config)
            key = int.from_bytes(_id(n), "big")
            if window.find(key) is None:
                window.add(key, n, keyed, offset, log_ms)

        return step

    return make


def _index() -> Operation:
    history = History(0, 0)
    history.opened(HistoryIndex(":memory:", LogIdentity("c", 1, 0)))
    frame = b"x" * 250

    def step(n: int) -> None:
        history.add(n, Deliver("t", 1, n + 1, n, _id(n), 0, frame, False))
        if len(history.recent) >= DEFAULT_HISTORY.batch:
            history.advance(n + 1, None)
            history.write()

    return step


def _routes() -> Operation:
    routes: Routes[str] = Routes()
    frame = b"x" * 250

    def step(n: int) -> None:
        topic = f"t{n % 100_000}"
        if n < 100_000:
            routes.add("gateway", topic, 1, 0)
        routes.push(Deliver(topic, 1, n // 100_000 + 1, n, b"", 0, frame, False))
        routes.take()

    return step


def _rings() -> Operation:
    metrics = Metrics(frozenset({"gateway"}))
    limits = Limits()
    events = DeliveryEvents(metrics.lifecycle_events)
    flush = Flush(
        limits,
        metrics,
        CatchUp(limits, BareLink(), metrics),
        lambda: None,
        events,
        lambda _feed, _members, _piece: [],
        float,
    )
    count = 100_000
    feeds: list[TopicFeed] = [Feed(f"t{n}", 0, 1, 0, {}) for n in range(count)]
    frame = b"x" * (limits.rings_bytes // count)

    def step(n: int) -> None:
        feed = feeds[n % count]
        feed.append(n // count + 1, [n], [frame])
        flush.add(feed)
        list(flush.run(Moment(0.0, 0)))

    return step


def _digest() -> Operation:
    digest = Digest()
    return lambda n: digest.fold(n, n, b"\x01")


CASES: Final = {
    "verdicts, single": Case(KEPT_MESSAGES, _verdicts(1)),
    "verdicts, bundles of 10": Case(KEPT_MESSAGES // 10, _verdicts(10)),
    "answers, known": Case(MAX_KNOWN, _answers),
    "answers, unresolved": Case(MAX_UNRESOLVED, _unresolved),
    "rate buckets": Case(MAX_BUCKETS, _buckets),
    "verified tokens": Case(MAX_CACHED, _tokens),
    "window, keyed": Case(1_000_000, _window(True, 1)),
    "window, unkeyed bundles": Case(200_000, _window(False, 1_000)),
    "index backlog and file": Case(100_000, _index),
    "routes": Case(100_000, _routes),
    "gateway rings": Case(100_000, _rings),
    "digest": Case(100_000, _digest),
}


def _chosen(only: str) -> Iterator[tuple[str, Case]]:
    return ((name, case) for name, case in CASES.items() if only in name)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.bounds", description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    worse: list[Any] = []
    print("| structure | bound | us before | us behind | worst 10,000 | operations behind |\n|---|---|---|---|---|---|")
    for name, case in _chosen(options.only):
        cost = measure(case, options.operations)
        line = f"| {name} | {case.bound:,} | {cost.before:.2f} | {cost.behind:.2f} | {cost.worst:.2f} | {cost.done:,} |"
        print(line, flush=True)
        if cost.worst > WORSE * cost.before:
            worse.append(name)
    print(f"more than {WORSE} times as dear at the bound: {worse or 'none'}")
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
