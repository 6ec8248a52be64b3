"""The admin port: exact probe bodies, metrics, and problems for the rest."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from headgate.runtime.admin import AdminServer, Check
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.origins import Origins
from headgate.runtime.metrics import Metrics


class Admin:
    """A served admin port; `checks` may be changed while it runs."""

    def __init__(self, client: httpx.AsyncClient, checks: dict[str, Check], metrics: Metrics) -> None:
        self.get, self.request = client.get, client.request
        self.checks, self.metrics = checks, metrics


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    checks: dict[str, Check] = {"log": lambda: None}
    metrics = Metrics({"gateway"})
    server = AdminServer("127.0.0.1", 0, metrics, checks)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
            yield Admin(client, checks, metrics)
        await server.finish()


async def test_ready_is_said_exactly(admin: Admin) -> None:
    answer = await admin.get("/readyz")
    assert (answer.status_code, answer.text) == (200, '{"ready":true,"checks":{}}')


async def test_not_ready_names_the_checks_that_fail_and_no_other(admin: Admin) -> None:
    admin.checks["links"] = lambda: "no link to the owner of shard 3"
    answer = await admin.get("/readyz")
    assert answer.status_code == 503
    assert answer.text == '{"ready":false,"checks":{"links":"no link to the owner of shard 3"}}'
    assert (await admin.get("/livez")).status_code == 200


async def test_metrics_are_the_text_format(admin: Admin) -> None:
    admin.metrics.delivered("durable", 3, 0.01)
    answer = await admin.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'headgate_deliveries_total{profile="durable"} 3.0' in answer.text


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/nope", 404, "not_found"),
    ("POST", "/readyz", 405, "method_not_allowed"),
])  # fmt: skip
async def test_the_rest_is_a_problem(admin: Admin, method: str, path: str, status: int, code: str) -> None:
    answer = await admin.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["status"]) == (code, status)
    assert ("allow" in answer.headers) == (status == 405)


async def test_head_answers_as_get(admin: Admin) -> None:
    assert (await admin.request("HEAD", "/livez")).status_code == 200


async def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            AdminServer("127.0.0.1", port, Metrics({"gateway"}), {})


async def test_in_open_mode_a_page_rebound_to_this_machine_gets_nothing() -> None:
    hosts = Hosts(Origins(("loopback",)), "127.0.0.1", is_open=True)
    server = AdminServer("127.0.0.1", 0, Metrics({"gateway"}), {}, hosts)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
            for path in ("/livez", "/readyz", "/metrics", "/nowhere"):
                answer = await client.get(path, headers={"Host": f"evil.example:{server.port}"})
                assert (answer.status_code, answer.json()["code"]) == (421, "misdirected")
            assert (await client.get("/livez")).status_code == 200
        await server.finish()
