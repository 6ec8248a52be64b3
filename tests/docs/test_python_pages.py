"""The Python programs of the how-to pages, word for word; only the address of the server is the test's."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docs.commands import ADDRESS, RUN_S, SOURCES, blocks
from tests.vectors.served import Served


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as served:
        yield served


class Program:
    """A program of a page that runs in a folder of its own."""

    def __init__(self, folder: Path, address: str, code: str, **environ: str) -> None:
        file = folder / "program.py"
        file.write_text(code.replace(ADDRESS, address))
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", file],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": SOURCES} | environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._end = threading.Timer(RUN_S, self._process.kill)
        self._end.start()

    def line(self) -> str:
        """The next line that it prints, empty after its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def rest(self) -> list[str]:
        """What it prints until it ends by itself."""
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        assert self._process.wait() == 0
        return lines

    def terminate(self) -> None:
        """Sends SIGTERM, as a container does."""
        self._process.terminate()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self._end.cancel()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def publish(served: Served, payload: Any, topic: str = "orders") -> None:
    url = f"{served.url}/api/v1/topics/{topic}/publish"
    assert httpx.post(url, json={"payload": payload}, trust_env=False).status_code == 200


def test_the_service_goes_on_where_it_was_when_it_is_started_again(served: Served, tmp_path: Path) -> None:
    service, *_ = blocks("docs/how-to/python.md", "python")
    address = served.url.removeprefix("http://")
    publish(served, "a")
    publish(served, "b")
    with Program(tmp_path, address, service) as program:
        assert [program.line(), program.line()] == ["1 a", "2 b"]
        publish(served, "c")
        assert program.line() == "3 c"
    publish(served, "d")
    with Program(tmp_path, address, service) as program:
        first = program.line()
    assert first in ("4 d", "3 c"), "it was killed between printing 3 and writing its position, or after"


def test_the_programs_that_publish(served: Served, tmp_path: Path) -> None:
    _, with_token, batch = blocks("docs/how-to/python.md", "python")
    address = served.url.removeprefix("http://")
    with Program(tmp_path, address, with_token, TOKEN="any") as program:
        (line,) = program.rest()
        assert line.startswith("1 ")
    with Program(tmp_path, address, batch) as program:
        printed = program.rest()
    assert [line.strip() for line in printed[:3]] == ["published"] * 3
    assert printed[3:] == ["1 {'id': 1}", "2 {'id': 0}", "3 {'id': 1}", "4 {'id': 2}"]


def test_the_worker_of_a_group_acknowledges_and_what_it_cannot_do_is_a_dead_letter(
    served: Served, tmp_path: Path
) -> None:
    worker, _ = blocks("docs/how-to/workers.md", "python")
    assert len([line for line in worker.splitlines() if line.strip()]) <= 20
    retry = {"kind": "fixed", "first_ms": 100, "max_ms": 100, "max_attempts": 2}
    with httpx.Client(base_url=f"{served.url}/api/v1", trust_env=False) as http:
        made = http.post("/topics", json={"name": "jobs", "topic_id": "jobs", "settings": {"retry": retry}})
        assert made.status_code == 201, made.text
        with Program(tmp_path, served.url.removeprefix("http://"), worker) as program:
            _until(lambda: http.get("/topics/jobs").json()["subscriber_count"] == 1)
            for payload in ("mail", "broken", "post"):
                assert http.post("/topics/jobs/publish", json={"payload": payload}).status_code == 200
            assert sorted(program.line() for _ in range(2)) == ["done: mail", "done: post"]
            _until(lambda: bool(http.get("/dead-letters", params={"topic_id": "jobs"}).json()["dead_letters"]))
        (letter,) = http.get("/dead-letters", params={"topic_id": "jobs"}).json()["dead_letters"]
    assert (letter["seq"], letter["group"], letter["attempts"]) == (2, "mailers", 2)


def test_the_worker_that_is_ended_by_a_signal_ends_its_block(served: Served, tmp_path: Path) -> None:
    _, worker = blocks("docs/how-to/workers.md", "python")
    with httpx.Client(base_url=f"{served.url}/api/v1", trust_env=False) as http:
        publish(served, "before", "jobs")
        with Program(tmp_path, served.url.removeprefix("http://"), worker) as program:
            _until(lambda: http.get("/topics/jobs").json()["subscriber_count"] == 1)
            publish(served, "mail", "jobs")
            assert program.line() == "done: mail"
            program.terminate()
            assert program.rest() == []
        assert http.get("/topics/jobs").json()["subscriber_count"] == 0


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_the_application_publishes_an_order_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: `make .venv/.dev` brings it")
    (application,) = blocks("docs/how-to/fastapi.md", "python")
    names: dict[str, Any] = {"__name__": "page"}
    code = application.replace(ADDRESS, served.url.removeprefix("http://"))
    exec(compile(code, "page", "exec"), names)
    app = names["app"]
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
            answers = [(await shop.post("/orders/7", json={"item": "tea"})).json() for _ in range(2)]
    assert answers == [{"seq": 1, "duplicate": False}, {"seq": 1, "duplicate": True}]
    history = httpx.get(f"{served.url}/api/v1/topics/orders/messages", trust_env=False).json()["messages"]
    assert [message["payload"] for message in history] == [{"item": "tea"}]
