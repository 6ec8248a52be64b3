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


@pytest.mark.parametrize(("query", "status", "failing"), [
    ("", 503, {"some_owners", "draining"}),
    ("?exclude=some_owners", 503, {"draining"}),
    ("?exclude=some_owners&exclude=draining", 200, set()),
    ("?exclude=draining&verbose=1&exclude=log", 503, {"some_owners"}),
])  # fmt: skip
async def test_checks_are_left_out_by_name(admin: Admin, query: str, status: int, failing: set[str]) -> None:
    admin.checks["some_owners"] = lambda: "no link to the owner of 1 of 64 shards ([3])"
    admin.checks["draining"] = lambda: "the process is stopping"
    answer = await admin.get(f"/readyz{query}")
    assert answer.status_code == status and set(answer.json()["checks"]) == failing
    assert answer.json()["ready"] is (status == 200)


@pytest.mark.parametrize("name", ["some_owner", "", "%22"])
async def test_a_check_that_is_not_there_cannot_be_left_out(admin: Admin, name: str) -> None:
    answer = await admin.get(f"/readyz?exclude=log&exclude={name}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.json()["detail"].endswith("here; there are log")


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
