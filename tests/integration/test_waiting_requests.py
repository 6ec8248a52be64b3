"""Pipelined requests that wait for the answers before them: all connections of a port share one budget for them."""

import asyncio

import pytest

from headgate.runtime.http import bounded
from headgate.runtime.http.heads import HeadBudget
from tests.integration.gateway_twin import until
from tests.integration.http_twin import Echo, Raw, plain_port, request


@pytest.mark.parametrize(
    "waiting", [request("GET", "/n", b"", "a: " + "x" * 40_000), request("POST", "/n", b"x" * 40_000)]
)
async def test_requests_that_wait_share_one_budget_with_their_bodies(
    monkeypatch: pytest.MonkeyPatch, waiting: bytes
) -> None:
    budget = HeadBudget(most_waiting=100_000)
    monkeypatch.setattr(bounded, "HeadBudget", lambda: budget)
    echo = Echo()
    async with plain_port(echo) as at:
        for _ in range(2):
            echo.wait.clear()
            clients = [await Raw.to(at) for _ in range(4)]
            for count, client in enumerate(clients):
                await client.say(request("GET", "/0") + waiting)
                await (until(lambda: budget.waiting > 80_000) if count == 1 else asyncio.sleep(0.05))
            assert budget.waiting < 100_000 + 50_000, "at most one is above it, whose body was read already"
            echo.wait.set()
            for client, answered in ((clients[0], 2), (clients[1], 2), (clients[3], 1)):
                for _ in range(answered):
                    assert (await client.answer())[0] == 200
            assert await clients[3].ended() == b"", "the connection ends behind those that wait"
            for client in clients:
                client.close()
            await until(lambda: budget.waiting == 0)


async def test_what_waited_is_given_back_where_it_is_refused_and_where_its_connection_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = HeadBudget()
    monkeypatch.setattr(bounded, "HeadBudget", lambda: budget)
    echo, bad = Echo(), request("GET", "/2").replace(b"Host: localhost", b"Host: a b")
    async with plain_port(echo) as at:
        for last in (bad, request("GET", "/2")):
            echo.wait.clear()
            client = await Raw.to(at)
            await client.say(request("POST", "/0", b"x") + request("POST", "/1", b"x" * 1_000) + last)
            await until(lambda: budget.waiting > 1_000)
            client.close()
            echo.wait.set()
            await until(lambda: budget.waiting == 0)
            assert budget.held == 0
