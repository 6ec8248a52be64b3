"""`/readyz` of the supervisor of gateway workers: what it hands on, and what it makes of the answers."""

import asyncio

import httpx
import pytest

from headgate.cli.gateway_workers import Worker, make_app
from headgate.runtime.http.server import HttpServer

READY = (200, '{"ready":true,"checks":{}}')
AWAY = (503, '{"ready":false,"checks":{"owners":"no dispatcher has been reached yet"}}')
NO_CHECK = (400, '{"code":"bad_request"}')


class Twin(Worker):
    """A worker without a process."""

    def __init__(self, number: int, answer: tuple[int, str]) -> None:
        self.number = number
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, path: str) -> tuple[int, str]:
        self.asked.append(path)
        return self.answer


@pytest.mark.parametrize(("answers", "query", "status", "asked"), [
    ((READY, AWAY), "", 200, "/readyz"),
    ((AWAY, AWAY), "?exclude=some_owners&exclude=keys", 503, "/readyz?exclude=keys&exclude=some_owners"),
    ((NO_CHECK, (0, "it is starting")), "?exclude=a%20b%26c", 400, "/readyz?exclude=a+b%26c"),
])  # fmt: skip
async def test_the_checks_to_leave_out_are_handed_to_every_worker(
    answers: tuple[tuple[int, str], ...], query: str, status: int, asked: str
) -> None:
    twins = [Twin(number, answer) for number, answer in enumerate(answers)]
    server = HttpServer("127.0.0.1", 0, make_app([*twins], asyncio.Event()))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
            answer = await client.get(f"/readyz{query}")
        await server.finish()
    assert answer.status_code == status
    assert all(twin.asked == [asked] for twin in twins)
    if status == 400:
        assert answer.headers["content-type"] == "application/problem+json"
