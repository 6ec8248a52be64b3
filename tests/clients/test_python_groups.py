"""Workers of the Python client in a consumer group, against gateways and a dispatcher."""

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.system import SystemClock, SystemRng
from headgate_client import Client, Message
from tests.integration.cluster_twin import token, until
from tests.integration.groups_twin import groups_bed

RETRY = {"kind": "fixed", "first_ms": 1_000, "max_ms": 1_000, "jitter": 0, "max_attempts": 3}


async def test_workers_share_the_messages_and_one_that_ends_leaves_its_part_to_the_others(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", SystemClock(), SystemRng(), 2)
    await log.open()
    done: dict[int, list[str]] = defaultdict(list)
    tries: list[int] = []

    async with groups_bed(log) as bed, AsyncExitStack() as stack:
        await bed.create("jobs", retry=RETRY)

        async def worker(name: str, at: int, *, stuck: bool = False) -> AsyncExitStack:
            async def handle(message: Message) -> None:
                assert message.seq is not None
                if stuck:
                    await asyncio.sleep(60)
                if message.payload == 3:
                    tries.append(message.attempt or 1)
                    raise RuntimeError("no use")
                done[message.seq].append(name)

            own = AsyncExitStack()
            url = f"http://127.0.0.1:{bed.gateways[at].server.port}"
            client = await own.enter_async_context(Client(url, stream_url=url, token=token(name), trust_env=False))
            await own.enter_async_context(client.worker("jobs", handle, group="g", concurrency=4, drain_s=0.1))
            return own

        first = await worker("first", 0, stuck=True)
        await stack.enter_async_context(await worker("second", 0))
        await stack.enter_async_context(await worker("third", 1))
        await until(lambda: bed.gateways[0].service.hub.subscription_count == 2, 10)
        await until(lambda: bed.gateways[1].service.hub.subscription_count == 1, 10)
        await bed.publish("jobs", range(40), keys=10)
        await asyncio.sleep(0.2)
        await first.aclose()
        await until(lambda: len(done) == 39, 20)
        await until(
            lambda: 'headgate_dead_letters_total{reason="max_attempts"} 1.0' in bed.metrics.render().decode(), 20
        )
    assert len(tries) == 3, "it failed three times, whether the worker that left had had it or not"
    assert tries in ([1, 2, 3], [2, 3, 4])
    assert all(len(names) == 1 for names in done.values()), done
    await log.close()
