"""100,000 messages to 10 in-process subscribers: messages a second, bytes a queued message, bounded memory.

    python bench/broker.py [--json]

Rates are messages per second of CPU (one thread does all of it), the best of three, without and with a listener, and on
asyncio. Bytes a queued message are what Python's own
allocator holds (tracemalloc) with 100,000 messages waiting for 10 subscribers, payload apart (one shared object) and
with a payload of its own, a dict of one member. Bounded memory: the peak of a run of ten times the messages through a
queue of 1,000 must stay where a run of a tenth has it.
"""

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from headgate.broker import AsyncBroker, Broker, Message

MESSAGES = 100_000
SUBSCRIBERS = 10
QUEUE = 1_000
RUNS = 3


def handle(message: Message) -> None:
    """Does nothing, so that the broker is what is measured."""


def make(listener: Callable[[Any], object] | None = None, queue: int = QUEUE) -> Broker:
    """A broker with its subscribers."""
    broker = Broker(max_queue_size=queue)
    if listener is not None:
        broker.add_listener(listener)
    for n in range(SUBSCRIBERS):
        broker.subscribe("bench", handle, name=f"subscriber-{n}")
    return broker


def pass_through(broker: Broker, messages: int) -> float:
    """Publishes in bursts of a full queue and delivers each; returns the seconds."""
    begun = time.process_time()
    for _ in range(messages // QUEUE):
        for n in range(QUEUE):
            broker.publish("bench", n)
        broker.run_until_idle()
    took = time.process_time() - begun
    metrics = broker.metrics("bench")
    assert (metrics.delivered_count, metrics.queue_length) == (messages * SUBSCRIBERS, 0)
    return took


async def pass_through_asyncio() -> float:
    """The same on asyncio: a task a try."""
    async with AsyncBroker(max_queue_size=QUEUE) as broker:
        for n in range(SUBSCRIBERS):
            broker.subscribe("bench", handle, name=f"subscriber-{n}")
        begun = time.process_time()
        for _ in range(MESSAGES // 10 // QUEUE):
            for n in range(QUEUE):
                await broker.publish("bench", n)
            await broker.drained()
        return time.process_time() - begun


def publish_only() -> float:
    """Seconds of one publish to 10 subscribers."""
    broker = make(queue=MESSAGES)
    begun = time.process_time()
    for n in range(MESSAGES):
        broker.publish("bench", n)
    return (time.process_time() - begun) / MESSAGES


def queued_bytes(payload: Callable[[int], Any]) -> float:
    """Bytes that a queued message takes."""
    broker = make(queue=MESSAGES)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(MESSAGES):
        broker.publish("bench", payload(n))
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert broker.metrics("bench").queue_length == MESSAGES
    return held / MESSAGES


def peak_bytes(messages: int) -> int:
    """The peak of a run through a bounded queue."""
    broker = make()
    gc.collect()
    tracemalloc.start()
    pass_through(broker, messages)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    """Measures and prints."""
    seen: list[object] = []
    plain = min(pass_through(make(), MESSAGES) for _ in range(RUNS))
    listened = min(pass_through(make(lambda event: seen.clear()), MESSAGES) for _ in range(RUNS))
    on_loop = min(asyncio.run(pass_through_asyncio()) for _ in range(RUNS))
    short, long = peak_bytes(MESSAGES // 10), peak_bytes(MESSAGES)
    shared: dict[str, int] = {}
    figures = {
        "messages": MESSAGES,
        "subscribers": SUBSCRIBERS,
        "messages_per_s": round(MESSAGES / plain),
        "deliveries_per_s": round(MESSAGES * SUBSCRIBERS / plain),
        "messages_per_s_with_a_listener": round(MESSAGES / listened),
        "messages_per_s_asyncio": round(MESSAGES / 10 / on_loop),
        "publish_us": round(min(publish_only() for _ in range(RUNS)) * 1e6, 2),
        "bytes_per_queued_message": round(queued_bytes(lambda n: shared)),
        "bytes_per_queued_message_with_its_payload": round(queued_bytes(lambda n: {"n": n})),
        "peak_kib_10_000_messages": round(short / 1024),
        "peak_kib_100_000_messages": round(long / 1024),
    }
    assert long < short * 1.5, "memory grows with the messages that pass"
    if "--json" in sys.argv or not sys.stdout.isatty():
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:45} {value:>12,}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
