"""The dashboard against Grafana's own types, and every query on a real Prometheus that scrapes a live Headgate."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from helm.observability.alerts import ALERTS
from helm.observability.dashboards import overview, queries
from helm.observability.files import RULES
from tests.deploy.conftest import needed
from tests.deploy.tools import grafana_types, run
from tests.e2e.clients import Publisher, SseReader, Subscriber
from tests.e2e.harness import Stage, until

WINDOW = "10s"  # instead of five minutes: the load below lasts a few seconds


def test_dashboard_is_of_grafanas_own_type(tmp_path: Path) -> None:
    node, folder = needed(grafana_types)
    source = folder / "check.ts"
    compiler = (node, folder / "node_modules" / "typescript" / "bin" / "tsc", "--noEmit", "--strict", "--skipLibCheck")

    def check(dashboard: dict[str, Any]) -> tuple[int, str]:
        # an enumeration of TypeScript is not its text
        value = json.dumps(dashboard).replace('"absolute"', "ThresholdsMode.Absolute")
        imports = "import { type Dashboard, ThresholdsMode } from '@grafana/schema';"
        text = f"{imports}\nexport const dashboard: Dashboard = {value};"
        source.write_text(text, "utf-8")
        flags = ("--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022")
        return run(*compiler, *flags, source, cwd=folder)

    assert check(overview()) == (0, "")
    status, text = check({**overview(), "style": "dark"})
    assert status != 0 and "style" in text, "the check itself"


def test_panels_have_places_of_their_own_words_and_ids() -> None:
    panels = overview()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
            assert [target["refId"] for target in panel["targets"]] == list("ABCDE"[: len(panel["targets"])])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


async def test_every_query_answers_on_a_prometheus_that_scrapes_a_live_headgate(
    stage: Stage, prometheus: Path, tmp_path: Path
) -> None:
    dev = stage.dev()
    dev.start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(served(prometheus, tmp_path, dev.admin, stage.ports(1)[0]))
        load = await stack.enter_async_context(running(under_load(dev.url)))
        await until(
            "deliveries are scraped", lambda: has_value(ask, "sum(rate(headgate_deliveries_total[10s])) > 0"), 40
        )
        empty = []
        for query in queries():
            found = await ask(shortened(query))
            if not found:
                empty.append(query)
        # what is only counted when something goes wrong is empty in a healthy run, and nothing else is
        assert all("> 0" in query and ("outcome" in query or "refusals" in query) for query in empty), empty
        for alert in ALERTS:
            await ask(shortened(alert.expr))  # an error in a query raises
        assert not load.done()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """A task that is over, connections closed, when the test is."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def shortened(query: str) -> str:
    """The query over seconds instead of minutes and hours: the load lasts no longer."""
    seconds = re.sub(r"\[\d+h:\d+m\]", f"[{WINDOW}:1s]", query)
    return re.sub(r"\[(\$__rate_interval|\d+m)\]", f"[{WINDOW}]", seconds)


async def has_value(ask: Any, query: str) -> bool:
    return bool(await ask(query))


@asynccontextmanager
async def served(prometheus: Path, folder: Path, admin: str, port: int) -> AsyncIterator[Any]:
    """A Prometheus that scrapes one process every second; yields what asks it."""
    target = admin.removeprefix("http://")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "headgate", "static_configs": [{"targets": [target], "labels": {"role": "dev"}}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")
    command = [
        str(prometheus), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "prometheus.err").open("wb") as err:
        process = subprocess.Popen(command, stdout=err, stderr=err, stdin=subprocess.DEVNULL)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10.0, trust_env=False) as http:

                async def ask(query: str) -> Any:
                    body = (await http.get("/api/v1/query", params={"query": query})).json()
                    assert body["status"] == "success", f"{query}: {body}"
                    return body["data"]["result"]

                async def answers() -> bool:
                    try:
                        return (await http.get("/-/ready")).status_code == 200
                    except httpx.TransportError:
                        return False

                await until("Prometheus answers", answers, 30)
                yield ask
        finally:
            process.kill()
            process.wait()


async def under_load(url: str) -> None:
    """Publishes twenty times a second to topics with a WebSocket and an SSE reader, until cancelled."""
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(url))
        await publisher.create_all(["load.durable"])
        await publisher.create("load.ephemeral", settings={"profile": "ephemeral"})
        for number in range(3):
            reader = Subscriber(f"s{number}", [url], ["load.durable", "load.ephemeral"])
            await stack.enter_async_context(reader)
        await stack.enter_async_context(SseReader(url, "load.durable"))
        number = 0
        while True:
            number += 1
            topic = ("load.durable", "load.ephemeral")[number % 2]
            await publisher.publish(topic, {"number": number})
            await asyncio.sleep(0.05)
