"""`headgate gateway --workers 2`: one port, one admin port, workers that are killed, a supervisor that is killed."""

import os
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.harness import Deployment, Role, Stage, token, until
from tests.e2e.http import NoAnswer

CLIENTS = 20  # all on one worker: once in half a million runs
MESSAGES = 60


def workers_of(role: Role) -> list[int]:
    """Returns the processes of the workers: multiprocessing has one of its own beside them."""
    pid = role.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


async def sessions(role: Role) -> dict[str, float]:
    found = {name: value for name, value in (await role.metrics()).items() if name.startswith("headgate_sessions{")}
    return {name.split('"')[1]: value for name, value in found.items()}


async def both_answer(role: Role) -> bool:
    """Returns whether both workers are in the metrics; the role is ready when one of them is."""
    try:
        return set(await sessions(role)) == {"1", "2"}
    except (NoAnswer, TimeoutError):
        return False


async def test_workers_share_a_port_come_back_when_killed_and_drain_together(
    stage: Stage, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, settings={"gateway.workers": 2})
    await deployment.start(shards=2)
    (gateway,) = deployment.gateways
    both = partial(both_answer, gateway)
    await until("both have started", both, 60)
    async with AsyncExitStack() as stack:
        root = token("root", service=True, admin=True)
        admin = await stack.enter_async_context(Publisher(deployment.ingests[0].url, root))
        assert (await admin.create("t")).status == 201
        clients = [Subscriber(f"s{n}", [gateway.url], ["t"], token=root) for n in range(CLIENTS)]
        for client in clients:
            await stack.enter_async_context(client)
        await until("all follow", lambda: all(client.connected for client in clients), 30)
        there = await sessions(gateway)
        assert set(there) == {"1", "2"} and sum(there.values()) == CLIENTS and min(there.values()) > 0

        before = workers_of(gateway)
        assert len(before) == 2
        for n in range(MESSAGES):
            if n == MESSAGES // 3:
                os.kill(before[0], signal.SIGKILL)
            assert (await admin.publish("t", {"n": n})).status == 200
        await until("every client has all", lambda: all(client.count >= MESSAGES for client in clients), 60)
        for client in clients:
            assert [seen.seq for seen in client.messages["t"]] == list(range(1, MESSAGES + 1))

        await until("the killed one is back", both, 60)
        after = workers_of(gateway)
        assert len(set(after) - set(before)) == 1
        await gateway.ready()

        os.kill(after[1], signal.SIGSTOP)
        await until("one that does not answer is killed", lambda: is_gone(after[1]), 60)
        assert (await admin.publish("t", {"n": MESSAGES})).status == 200
        await until("its clients have come back", lambda: all(client.count > MESSAGES for client in clients), 60)
        await until("it is back", both, 60)
        last = workers_of(gateway)
        gateway.sigterm()
        assert await gateway.ended(60) == 0
    assert all(is_gone(pid) for pid in before + after + last)
    assert not stage.tracebacks()


async def test_workers_end_with_their_supervisor_and_a_port_that_is_taken_is_one_clear_line(
    stage: Stage, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, settings={"gateway.workers": 2})
    await deployment.start(shards=2)
    (gateway,) = deployment.gateways
    left = workers_of(gateway)
    status, _, said = await stage.command(
        "gateway", settings=gateway.settings | {"admin.port": 0, "gateway.workers": 1}
    )
    assert status == 1 and said.decode().count("\n") <= 2 and "cannot listen on" in said.decode()
    gateway.kill9()
    await until("workers without a supervisor end", lambda: all(map(is_gone, left)), 60)
    gateway.start()
    await gateway.ready()
    assert not stage.tracebacks()
