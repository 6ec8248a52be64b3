"""A real browser on pages of other origins: what `http.origins` names works whole, everything else gets nothing."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Browser, answering, empty_page
from tests.e2e.harness import SECRET, Stage, token

PUBLISH = """
const answer = await fetch(URL + '/api/v1/topics/room/publish', {
  method: 'POST', credentials: CREDENTIALS,
  headers: {Authorization: 'Bearer ' + TOKEN, 'Content-Type': 'application/json', 'Cache-Control': 'no-cache',
            traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'X-Requested-With': 'page'},
  body: '{"payload":1}'});
return answer.status
"""
HISTORY = """
const answer = await fetch(URL + '/api/v1/topics/room/messages', {
  credentials: CREDENTIALS, headers: {Authorization: 'Bearer ' + TOKEN, 'Last-Event-ID': '1:1'}});
return (await answer.json()).messages.length
"""
STREAM = """
return await new Promise((resolve) => {
  const source = new EventSource(URL + '/sse/subscribe?topic_id=room&from=earliest&token=' + TOKEN,
                                 {withCredentials: CREDENTIALS == 'include'});
  source.onmessage = (event) => { source.close(); resolve(JSON.parse(event.data).payload) };
  source.onerror = () => { source.close(); resolve('refused') };
})
"""
SOCKET = """
return await new Promise((resolve) => {
  const socket = new WebSocket(URL.replace('http', 'ws') + '/ws/subscribe?topic_id=room&from=earliest',
                               ['headgate.v1', 'bearer.' + TOKEN]);
  socket.onmessage = (event) => {
    const frame = JSON.parse(event.data);
    if (frame.type == 'message') { socket.close(); resolve(frame.payload) }
  };
  socket.onerror = () => resolve('refused');
})
"""


def of(script: str, url: str, credentials: str = "include") -> str:
    names = {"URL": url, "TOKEN": token("page"), "CREDENTIALS": credentials}
    return "".join(f"const {name} = {json.dumps(value)};" for name, value in names.items()) + script


@pytest.fixture
async def pages(stage: Stage) -> AsyncIterator[int]:
    (port,) = stage.ports(1)
    async with answering(empty_page, port):
        yield port


async def test_a_page_of_a_named_origin_publishes_reads_and_streams_with_credentials(
    stage: Stage, pages: int, tmp_path: Path
) -> None:
    origins = f"http://app.test:{pages},http://*.preview.test:{pages}"
    dev = stage.dev(auth__secret=SECRET, http__origins=origins).start()
    await dev.ready()
    names = ("app.test", "p1.preview.test", "a.p1.preview.test", "evil.test")
    async with Browser(tmp_path, names) as browser:
        for name in ("app.test", "p1.preview.test"):
            await browser.open(f"http://{name}:{pages}/")
            assert await browser.run(of(PUBLISH, dev.url)) == 200
            assert await browser.run(of(HISTORY, dev.url)) >= 1
            assert await browser.run(of(STREAM, dev.url)) == 1
            assert await browser.run(of(SOCKET, dev.url)) == 1
        for name in ("evil.test", "a.p1.preview.test", "localhost"):
            await browser.open(f"http://{name}:{pages}/")
            for script in (PUBLISH, HISTORY):
                assert "Failed to fetch" in await browser.run(of(script, dev.url, "omit"))
            assert await browser.run(of(STREAM, dev.url, "omit")) == "refused"
            assert await browser.run(of(SOCKET, dev.url, "omit")) == "refused"


async def test_a_star_serves_every_page_but_none_with_credentials(stage: Stage, pages: int, tmp_path: Path) -> None:
    dev = stage.dev(auth__secret=SECRET, http__origins="*").start()
    await dev.ready()
    async with Browser(tmp_path, ("any.test",)) as browser:
        await browser.open(f"http://any.test:{pages}/")
        assert await browser.run(of(PUBLISH, dev.url, "omit")) == 200
        assert await browser.run(of(STREAM, dev.url, "omit")) == 1
        assert "Failed to fetch" in await browser.run(of(PUBLISH, dev.url, "include"))
        assert await browser.run(of(STREAM, dev.url, "include")) == "refused"


async def test_a_page_whose_name_was_rebound_to_this_machine_gets_nothing_of_dev(
    stage: Stage, pages: int, tmp_path: Path
) -> None:
    dev = stage.dev(auth__mode="open").start()
    await dev.ready()
    read = "const answer = await fetch('/api/v1/topics'); return [answer.status, await answer.text()]"
    async with Browser(tmp_path, ("evil.test",)) as browser:
        await browser.open(f"http://evil.test:{dev.port}/api/v1/topics")
        status, text = await browser.run(read)
        assert (status, json.loads(text)["code"]) == (421, "misdirected")
        here: Any = f"http://evil.test:{dev.port}"
        assert await browser.run(of(PUBLISH, here)) == 421
        assert await browser.run(of(STREAM, here)) == "refused"
        assert await browser.run(of(SOCKET, here)) == "refused"
        await browser.open(f"{dev.url}/api/v1/topics")
        assert (await browser.run(read))[0] == 200
        await browser.open(f"http://localhost:{pages}/")  # any loopback origin may call dev
        assert await browser.run(of(PUBLISH, dev.url, "omit")) == 200
        assert await browser.run(of(SOCKET, dev.url, "omit")) == 1
