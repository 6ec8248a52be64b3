"""The dashboards against Grafana's own types, and every query on a real Prometheus that scrapes a live Headgate."""

import asyncio
import contextlib
import html
import json
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from helm.observability import drawing, pictures
from helm.observability.alerts import ALERTS
from helm.observability.dashboards import PAGES, dashboard, queries
from helm.observability.files import RULES
from helm.observability.panels import Page
from tests.deploy.conftest import needed
from tests.deploy.scraping import served
from tests.deploy.tools import grafana_types, run
from tests.e2e.clients import Publisher, SseReader, Subscriber
from tests.e2e.harness import Stage, until

TOPS = (
    *("headgate_top_topic_members", "headgate_top_topic_messages_per_hour", "headgate_top_topic_failures"),
    "headgate_top_inbox_backlog",
)
WINDOW = "10s"  # instead of five minutes: the load below lasts a few seconds


def test_every_page_is_of_grafanas_own_type(tmp_path: Path) -> None:
    node, folder = needed(grafana_types)
    source = folder / "check.ts"
    compiler = (node, folder / "node_modules" / "typescript" / "bin" / "tsc", "--noEmit", "--strict", "--skipLibCheck")

    def check(page: dict[str, Any]) -> tuple[int, str]:
        # an enumeration of TypeScript is not its text
        value = json.dumps(page).replace('"absolute"', "ThresholdsMode.Absolute")
        imports = "import { type Dashboard, ThresholdsMode } from '@grafana/schema';"
        text = f"{imports}\nexport const dashboard: Dashboard = {value};"
        source.write_text(text, "utf-8")
        flags = ("--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022")
        return run(*compiler, *flags, source, cwd=folder)

    checked = [check(dashboard(page)) for page in PAGES]
    assert checked == [(0, "")] * len(PAGES)
    status, text = check({**dashboard(PAGES[0]), "style": "dark"})
    assert status != 0 and "style" in text, "the check itself"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_panels_have_places_of_their_own_words_and_ids(page: Page) -> None:
    panels = dashboard(page)["panels"]
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


def test_a_picture_has_lines_units_limits_and_says_where_there_is_nothing() -> None:
    whole = dashboard(PAGES[0])
    delivery = next(panel for panel in whole["panels"] if panel["title"] == "Delivery")
    shown = whole | {"panels": [delivery]}
    lines = {delivery["id"]: [drawing.Line("p95 <b>", [(0.0, 0.1), (10.0, 0.3)])]}
    drawn = drawing.page(shown, lines, 0.0, 10.0)
    assert drawn.count("<polyline") == 1 and "p95 &lt;b&gt;" in drawn and "500 ms" in drawn
    assert drawn.count("stroke-dasharray") == 2, "both limits of the panel are in sight"
    nothing = {delivery["id"]: [drawing.Line("p95", [(0.0, float("nan"))])]}
    empty = drawing.page(shown, nothing, 0.0, 10.0)
    assert "<polyline" not in empty and "No data" in empty and "No data" not in drawn
    panels = sum(panel["type"] != "row" for panel in whole["panels"])
    assert drawing.page(whole, {}, 0.0, 10.0).count("No data") == panels


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0192, "s", "19.2 ms"), (2.0, "s", "2 s"), (1_500.0, "ops", "1.5k/s"), (0.25, "percentunit", "25 %"),
     (3 * 1024.0**2, "bytes", "3 MiB"), (0.0, "bytes", "0 B"), (2e6, "short", "2M"), (7.0, "short", "7")],
)  # fmt: skip
def test_values_are_shown_with_their_units(value: float, unit: str, text: str) -> None:
    assert drawing.shown(value, unit) == text


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
        ask = await stack.enter_async_context(
            served(prometheus, tmp_path, {"dev": [dev.admin]}, RULES, stage.ports(1)[0])
        )
        load = await stack.enter_async_context(running(under_load(dev.url)))
        scraped = ("sum(rate(headgate_deliveries_total[10s])) > 0", *TOPS)
        for query in scraped:
            await until(f"{query} is scraped", partial(has_value, ask, query), 60)
        empty = []
        for query in queries():
            found = await ask(shortened(query))
            if not found:
                empty.append(query)
        # what is only counted when something goes wrong is empty in a healthy run, and nothing else is
        # (there is no canary in it, and a memory limit only in a container that has one)
        elsewhere = ("headgate_canary_", "headgate_memory_limit_bytes", "kafka_server_")
        here = [query for query in empty if not any(name in query for name in elsewhere)]
        wrongs = ("outcome", "refusals", "dead_letters")
        assert all("> 0" in query and any(name in query for name in wrongs) for query in here), here
        pictures_of(ask.url, tmp_path / "pictures")
        for alert in ALERTS:
            await ask(shortened(alert.expr))  # an error in a query raises
        assert not load.done()


def pictures_of(url: str, folder: Path) -> None:
    """Draws the pages: each panel is there, and those of the traffic have lines."""
    arguments = ["--prometheus", url, "--out", str(folder), "--seconds", "30", "--rate-interval", WINDOW]
    assert pictures.main(arguments) == 0
    for page in PAGES:
        drawn = (folder / f"{page.name}.html").read_text("utf-8")
        assert all(html.escape(panel.title) in drawn for _, row in page.rows for panel in row)
    health = (folder / "health.html").read_text("utf-8")
    assert "delivered a second" in health and health.count("<polyline") > 20
    assert pictures.main(["--prometheus", "http://127.0.0.1:9", "--out", str(folder)]) == 1


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


async def under_load(url: str) -> None:
    """Publishes twenty times a second to topics with a WebSocket and an SSE reader, until cancelled."""
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(url))
        await publisher.create_all(["load.durable"])
        await publisher.create("load.ephemeral", settings={"profile": "ephemeral"})
        joined = await publisher.call("PUT", "/api/v1/topics/load.durable/members/ann", {"role": "member"})
        assert joined.status == 200
        refusing = await stack.enter_async_context(running(refusing_all(url)))
        for number in range(3):
            reader = Subscriber(f"s{number}", [url], ["load.durable", "load.ephemeral"])
            await stack.enter_async_context(reader)
        await stack.enter_async_context(SseReader(url, "load.durable"))
        number = 0
        while not refusing.done():
            number += 1
            topic = ("load.durable", "load.ephemeral")[number % 2]
            await publisher.publish(topic, {"number": number})
            await asyncio.sleep(0.05)


async def refusing_all(url: str) -> None:
    """Follows the durable topic and refuses each message, until cancelled."""
    path = f"{url.replace('http', 'ws', 1)}/ws/subscribe?topic_id=load.durable&ack=true&from=earliest&user=eve"
    while True:
        with contextlib.suppress(ConnectionClosed, InvalidHandshake):
            async with connect(path, proxy=None) as socket:
                async for text in socket:
                    frame = json.loads(text)
                    if frame["type"] == "message":
                        nack = {"type": "nack", "topic_id": "load.durable", "seq": frame["seq"], "reason": "no"}
                        await socket.send(json.dumps(nack))
        await asyncio.sleep(0.5)
