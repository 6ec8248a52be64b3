"""Requests beside streams: bodies of DELETE, escaped paths, bytes sent ahead."""

import asyncio

import pytest

from gateway.http_fallback import HttpFallback
from headgate.core.client.limits import Limits
from tests.integration.gateway_twin import gateway, until
from tests.integration.test_gateway_sse import Client, stream

PATH = "/api/v1/topics/a/subscribe"


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"{}", {"Content_Type": "text/plain"}, 415, "Content-Type"),
        (b"{}", {"Content_Encoding": "gzip"}, 415, "Content-Encoding"),
        (b"{}", {"Content_Type": "application/json; charset=latin-1"}, 415, "Content-Type"),
        (b'{"connection_id":null}', {}, 400, "connection_id"),
        (b'{"connection_id":5}', {"Content_Type": "application/json"}, 400, "connection_id"),
    ],
)
async def test_delete_refuses_other_bodies_and_ends_nothing(
    body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        live, _ = await stream(gate, PATH)
        client = await Client.to(gate)
        client.ask(PATH, "DELETE", body, **headers)
        got, _, problem = await client.answer()
        assert got == status and says in problem["detail"] and topic.count == 1
        client.close()
        live.close()


async def test_delete_knows_a_user_by_the_utf_8_of_the_header() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        live, _ = await stream(gate, f"{PATH}?user=%C3%A9va")
        client = await Client.to(gate)
        client.ask(PATH, "DELETE", X_Headgate_User="éva")
        assert (await client.answer())[2] == {"success": True, "ended": 1}
        client.close()
        live.close()


async def test_a_body_of_delete_that_does_not_come_is_408() -> None:
    async with gateway(limits=Limits(head_s=0.3)) as gate:
        client = await Client.to(gate)
        client.ask(PATH, "DELETE", Content_Length="5")
        status, headers, problem = await client.answer()
        assert (status, headers["connection"], problem["code"]) == (408, "close", "request_timeout")
        assert await client.rest() == b""


@pytest.mark.parametrize("path", ["/sse%2Fsubscribe?topic_id=a", "/ws%2Fsubscribe", "/api/v1/topics/a%2Fsubscribe"])
async def test_an_escaped_slash_is_no_separator(path: str) -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        client.ask(path)
        assert (await client.answer())[0] == 404
        client.close()


async def test_bytes_sent_ahead_of_an_answer_are_not_read_on_and_not_lost() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        gate.owners.slow = True
        client = await Client.to(gate)
        client.ask("/api/v1/topics/x/subscribe", "DELETE")
        await until(lambda: bool(gate.owners._link))
        for _ in range(40):
            client.ask("/nothing", "POST", b"x" * 100_000)
        (handed,) = [c for c in gate.connections if isinstance(c, HttpFallback)]
        await until(lambda: handed.flow.read_paused)
        await asyncio.sleep(0.05)
        bodies = sum(len(cycle.body) for cycle, _ in handed.pipeline)
        assert len(handed._held) + bodies <= 512 * 1024
        gate.owners.slow = False
        gate.owners.deliver()
        for _ in range(41):
            assert (await client.answer())[0] == 404
        client.close()


async def test_the_ends_of_a_user_have_a_rate_and_those_of_a_service_have_none() -> None:
    async with gateway(mode="jwt", limits=Limits(reads_per_user_per_min=2)) as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        for token, statuses in (
            (gate.token(), [200, 200, 429]),
            (gate.token("eve"), [200]),
            (gate.token(service=True), [200] * 3),
        ):
            for status in statuses:
                client.ask(PATH, "DELETE", Authorization=f"Bearer {token}")
                got, headers, problem = await client.answer()
                assert got == status and ("retry-after" in headers) == (status == 429), problem
        gate.clock.ahead += 30
        client.ask(PATH, "DELETE", Authorization=f"Bearer {gate.token()}")
        assert (await client.answer())[0] == 200
        client.close()
