"""The same run with the same seed gives the same events, byte for byte, in this process and in another one."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec

from headgate.broker import (
    BatchedDeliveryStrategy,
    Broker,
    ImmediateDeliveryStrategy,
    Message,
    OnFull,
    Refusal,
    exponential,
)

ROOT = Path(__file__).parents[2]


def trace(seed: int) -> bytes:
    """A busy run: three subscribers and a group that fail at random, keys, swaps, an overflow queue, jitter."""
    rng = random.Random(seed)
    lines: list[bytes] = []

    def handle(message: Message) -> None:
        if rng.random() < 0.3:
            raise ValueError(f"draw for {message.id}")

    broker = Broker(
        rng=rng,
        retry=exponential(3, first=0.5, jitter=0.5),
        max_queue_size=20,
        on_full=OnFull.OVERFLOW,
        overflow_size=20,
        latency=lambda message, name: rng.random() if name == "far" else 0.0,
    )
    broker.add_listener(lambda event: lines.append(msgspec.json.encode(event)))
    for name, group in (("near", None), ("far", None), ("w1", "g"), ("w2", "g"), ("w3", "g")):
        broker.subscribe("orders", handle, name=name, group=group)
    for n in range(300):
        try:
            broker.publish("orders", n, key=f"k{n % 7}")
        except Refusal:
            broker.advance(1.0)
        if n % 25 == 0:
            broker.swap_strategy((ImmediateDeliveryStrategy(), BatchedDeliveryStrategy(4, max_delay=0.3))[n % 50 > 0])
        if n % 10 == 0:
            broker.advance(0.2)
    broker.flush()
    broker.advance(1000.0)
    return b"\n".join(lines)


def digest(seed: int) -> str:
    return hashlib.sha256(trace(seed)).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not() -> None:
    first = trace(1)
    assert len(first.splitlines()) > 2_000
    assert trace(1) == first
    assert trace(2) != first


def test_also_in_another_process_with_other_hashes() -> None:
    code = "from tests.broker.test_determinism import digest; print(digest(1))"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(1)
