"""A real browser's EventSource that was cut before its first message loses nothing."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from tests.e2e.browser import answering
from tests.e2e.chromium import chromium
from tests.e2e.harness import Stage, until
from tests.e2e.stock import CutPath

TOPIC: Final = "browser.room"
WAIT_S: Final = 60.0
_PAGE: Final = """<!doctype html><script>
const tell = (on, data) => fetch("/told", {method: "POST", body: JSON.stringify({on, data})});
const source = new EventSource("STREAM");
source.onmessage = (event) => tell("message", JSON.parse(event.data));
for (const name of ["subscribed", "caught_up"])
  source.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
</script>"""


class Page:
    """Serves one page on a port of its own and keeps what its script tells."""

    def __init__(self, stream: str) -> None:
        self.told: list[dict[str, Any]] = []
        self._page = _PAGE.replace("STREAM", stream).encode()

    def of(self, kind: str) -> list[Any]:
        """Returns the data of one kind of event, in order."""
        return [line["data"] for line in self.told if line["on"] == kind]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        body = await reader.readexactly(size)
        if head.startswith(b"post"):
            self.told.append(json.loads(body))
        text = self._page if head.startswith(b"get / ") else b""
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(text) + text)
        await writer.drain()


@asynccontextmanager
async def opened(stream: str) -> AsyncIterator[Page]:
    """Opens the page in Chromium."""
    page = Page(stream)
    path = await asyncio.to_thread(chromium)
    async with answering(page.answer) as port:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
            browser = await asyncio.create_subprocess_exec(
                path,
                *options,
                f"http://127.0.0.1:{port}/",
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                yield page
            finally:
                browser.kill()
                await browser.wait()


@pytest.mark.parametrize("begin", ["live", "last:0", "earliest"])
async def test_a_browser_that_has_heard_nothing_yet_loses_nothing(stage: Stage, begin: str) -> None:
    dev = stage.dev().start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(CutPath(dev.port))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=dev.url, trust_env=False))
        created = await http.post("/api/v1/topics", json={"topic_id": TOPIC, "name": TOPIC})
        assert created.status_code == 201, created.text
        stream = f"http://127.0.0.1:{path.port}/sse/subscribe?topic_id={TOPIC}&from={begin}"
        page = await stack.enter_async_context(opened(stream))
        last = "subscribed" if begin == "live" else "caught_up"
        await until("the stream stands", lambda: len(page.of(last)) == 1, WAIT_S)
        assert path.cut() >= 1
        for number in range(3):
            answer = await http.post(f"/api/v1/topics/{TOPIC}/publish", json={"payload": number})
            assert answer.status_code == 200, answer.text
        await until("it has them all", lambda: len(page.of("message")) >= 3, WAIT_S)
        assert [message["payload"] for message in page.of("message")] == [0, 1, 2]
        assert [frame.get("resumed") for frame in page.of("subscribed")] == [None, True]
