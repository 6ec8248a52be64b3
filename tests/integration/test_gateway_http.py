"""The gateway's HTTP application passes the same checks as the ingest's, in the same order."""

import pytest

from headgate.core.client.limits import Limits
from tests.integration.gateway_twin import gateway
from tests.integration.test_gateway_sse import Client, stream

PATH = "/api/v1/topics/a/subscribe"


async def test_who_a_delete_is_from_is_known_before_its_body_is_read() -> None:
    async with gateway(mode="jwt", limits=Limits(head_s=0.5)) as gate:
        client = await Client.to(gate)
        client.ask(PATH, "DELETE", Content_Length="200000")
        status, _, problem = await client.answer()
        assert (status, problem["code"]) == (401, "unauthenticated"), "408 would mean that it waited for the body"
        client.close()


async def test_the_size_of_a_body_comes_before_authentication() -> None:
    async with gateway(mode="jwt") as gate:
        client = await Client.to(gate)
        client.ask(PATH, "DELETE", Content_Length=str(256 * 1024 + 1))
        assert (await client.answer())[2]["code"] == "too_large"
        client.close()


async def test_in_open_mode_a_page_of_a_foreign_origin_ends_no_stream() -> None:
    async with gateway(origins=("https://app.test",)) as gate:
        topic = gate.owners.create("a")
        live, _ = await stream(gate, PATH)
        client = await Client.to(gate)
        client.ask(PATH, "DELETE", Origin="https://evil.test")
        assert (await client.answer())[2]["code"] == "forbidden"
        assert topic.count == 1
        client.ask(PATH, "DELETE", Origin="https://app.test")
        assert (await client.answer())[2] == {"success": True, "ended": 1}
        client.close()
        live.close()


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"])
async def test_a_body_that_is_no_object_is_bad(body: bytes) -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        client.ask(PATH, "DELETE", body)
        assert (await client.answer())[2]["code"] == "bad_request"
        client.close()


async def test_a_path_that_is_not_there_is_counted_and_says_how_it_varies() -> None:
    async with gateway() as gate:
        client = await Client.to(gate)
        client.ask("/nowhere")
        status, headers, problem = await client.answer()
        assert (status, headers["vary"], problem["code"]) == (404, "Origin", "not_found")
        client.close()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_empty_segment_is_no_topic(method: str) -> None:
    async with gateway() as gate:
        client = await Client.to(gate)
        client.ask("/api/v1/topics//subscribe", method)
        assert (await client.answer())[2]["code"] == "not_found"
        client.close()


@pytest.mark.parametrize(("field", "status"), [("x=1&" * 2_047, 200), ("x=1&" * 2_048, 400)])
async def test_a_delete_has_as_many_fields_as_a_stream(field: str, status: int) -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        client.ask(f"{PATH}?{field}connection_id=c", "DELETE")
        assert (await client.answer())[0] == status
        client.close()
