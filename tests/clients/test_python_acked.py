"""Workers of the Python client on a real server: what fails comes again, a restart goes on at the cursor, a newer
worker takes over. Skipped where the server does not acknowledge."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate_client import Client, Message, Outgoing, Published, SubscribeRefused, SubscriptionEnded
from headgate_client.worker import Handler
from tests.e2e.harness import Role, Stage, until

COUNT = 300


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Processes that end with the test; none of them may have written a traceback."""
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.close()
    assert not stage.tracebacks(), "a process wrote a traceback"


async def started(stage: Stage) -> Role:
    """A server that acknowledges, with a topic `jobs` that retries fast."""
    dev = stage.dev(data=True, auth__mode="open").start()
    await dev.ready()
    async with Client(dev.url, user="owner", trust_env=False) as client:
        body = {"name": "jobs", "topic_id": "jobs"}
        await client.request("POST", "/api/v1/topics", body=body, key="create")
        try:
            async with client.subscribe("jobs", from_="cursor", ack=True) as probe:
                await probe.ready()
                reading = asyncio.create_task(anext(probe))
                await asyncio.sleep(0.2)
                reading.cancel()
                if reading.done():
                    reading.result()
        except SubscribeRefused as error:
            assert error.code == "bad_request"
            pytest.skip(f"this server does not acknowledge: {error.message}")
        retry = {"kind": "fixed", "first_ms": 200, "max_attempts": 5, "jitter": 0}
        await client.request("PATCH", "/api/v1/topics/jobs", body={"settings": {"retry": retry}}, key="retry")
    return dev


async def publish(dev: Role, first: int, last: int) -> None:
    async with Client(dev.url, user="w", trust_env=False) as client:
        numbers = [Outgoing(payload=n, client_msg_id=f"job-{n}") for n in range(first, last)]
        assert all(isinstance(answer, Published) for answer in await client.publish_batch(numbers, topic_id="jobs"))


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_what_fails_comes_again_and_a_restart_repeats_nothing(stage: Stage, concurrency: int) -> None:
    dev = await started(stage)
    done: Counter[int] = Counter()
    tries: Counter[int] = Counter()

    async def handle(message: Message) -> None:
        tries[message.payload] += 1
        assert message.attempt >= tries[message.payload]
        if message.payload % 100 == 7 and tries[message.payload] < 3:
            raise RuntimeError("not yet")
        done[message.payload] += 1

    for half in range(2):
        async with Client(dev.url, user="mailer", device_id="one", trust_env=False) as client:
            start = "earliest" if half == 0 else "cursor"
            async with client.worker("jobs", handle, from_=start, concurrency=concurrency) as worker:
                await worker.ready()
                await publish(dev, half * COUNT, (half + 1) * COUNT)
                await until("all is done", lambda enough=(half + 1) * COUNT: len(done) >= enough, 60)
    assert set(done.values()) == {1}, "each once"
    assert {n for n, count in tries.items() if count > 1} == {n for n in range(2 * COUNT) if n % 100 == 7}


async def test_a_killed_server_loses_no_job(stage: Stage) -> None:
    dev = await started(stage)
    done: list[int] = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(0.002)
        done.append(message.payload)

    async with (
        Client(dev.url, user="mailer", trust_env=False) as client,
        client.worker("jobs", handle, from_="earliest") as worker,
    ):
        await worker.ready()
        await publish(dev, 0, COUNT)
        for part in range(2):
            await until("some are done", lambda enough=(part + 1) * 50: len(done) >= enough, 30)
            dev.kill9()
            dev.start()
            await dev.ready()
        await until("all are done", lambda: len(set(done)) == COUNT, 60)
    assert done == list(range(COUNT)), "the worker lived on: it repeats nothing"


async def test_a_newer_worker_of_the_device_takes_over(stage: Stage) -> None:
    dev = await started(stage)
    seen: list[tuple[str, int]] = []

    def handler(name: str) -> Handler:
        async def handle(message: Message) -> None:
            seen.append((name, message.payload))

        return handle

    async with (
        Client(dev.url, user="mailer", trust_env=False) as old,
        Client(dev.url, user="mailer", trust_env=False) as new,
        old.worker("jobs", handler("old"), from_="earliest") as first,
    ):
        await first.ready()
        await publish(dev, 0, 10)
        await until("the old one works", lambda: len(seen) == 10, 30)
        await first._messages.confirm()  # what it did not tell the server comes to the new one too
        async with new.worker("jobs", handler("new")) as second:
            await second.ready()
            with pytest.raises(SubscriptionEnded, match="replaced"):
                await asyncio.wait_for(first.done(), 30)
            await publish(dev, 10, 20)
            await until("the new one works", lambda: ("new", 19) in seen, 30)
    assert seen == [("old", n) for n in range(10)] + [("new", n) for n in range(10, 20)]
