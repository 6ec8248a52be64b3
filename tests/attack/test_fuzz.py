"""Odd input through every entry: no process ends, nothing is answered 500, no link is lost, no neighbour is held up.

3 s an entry here, 60 s in `make attack` (HEADGATE_ATTACK_S). HEADGATE_FUZZ_SEED repeats another run.
"""

import asyncio
import os
import time
from collections import Counter
from typing import Final

from tests.attack.entries import ENTRIES, Entry, foreign_records
from tests.attack.odd import Odd
from tests.attack.target import Neighbour, healthy, seconds
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, token
from tests.e2e.kafka_client import producer

SEED: Final = int(os.environ.get("HEADGATE_FUZZ_SEED", "20261126"))
WORKERS: Final = 6
PAUSE_S: Final = 0.01  # odd, not many: what many do is another attack
SHARDS: Final = 4


async def test_odd_input_harms_nobody(stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, settings={"topics.auto_create": "true"})
    await deployment.start(SHARDS)
    await _topic_for_the_fuzz(deployment)
    async with producer(kafka_bootstrap) as client, Neighbour(deployment).living() as neighbour:
        entries = ENTRIES | {"foreign records": foreign_records(client, f"{log_prefix}.messages", SHARDS)}
        for name, entry in entries.items():
            outcomes = await _tried(deployment, name, entry)
            figures_of = await neighbour.judge(name)
            await healthy(deployment.roles, name)
            assert outcomes.total() >= 10, f"{name} was hardly tried: {outcomes}"
            assert 500 not in outcomes, f"{name}: {outcomes}"
            figures.say(f"seed {SEED}, {name}: {outcomes.total()} tries, {dict(outcomes.most_common(8))}; {figures_of}")


async def _topic_for_the_fuzz(deployment: Deployment) -> None:
    async with Publisher(deployment.ingests[0].url, token("fuzz", service=True)) as publisher:
        await publisher.create("fuzz")


async def _tried(deployment: Deployment, name: str, entry: Entry) -> "Counter[int | str]":
    """Runs one entry from several workers until the time is over; each worker has a seed of its own."""
    outcomes: Counter[int | str] = Counter()
    end = time.monotonic() + seconds(3)

    async def work(number: int) -> None:
        odd = Odd(SEED * 1_000 + number)
        tried = 0
        while time.monotonic() < end:
            state = odd.random.getstate()
            tried += 1
            try:
                outcome = await entry(deployment, odd)
                assert outcome != 500, "answered 500"
            except (AssertionError, ValueError) as error:
                odd.random.setstate(state)
                raise AssertionError(f"{name}, seed {SEED}, worker {number}, try {tried}: {error}") from error
            outcomes[outcome] += 1
            await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as tasks:
        for number in range(WORKERS):
            tasks.create_task(work(number))
    return outcomes
