"""Two people in two browsers while gateways are killed: both have the same in the end, each message once, in order."""

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.clients.chat_browser import WAIT_MS, ChatUser
from tests.e2e.harness import Deployment, Stage, token
from tests.vectors.served import ROOT

BACK_MS = 60_000


class _QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def page_url() -> Iterator[str]:
    """The files of the chat on a web server of their own, on another origin than Headgate."""
    files = functools.partial(_QuietFiles, directory=str(ROOT / "examples" / "chat"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_both_pages_agree_after_gateways_were_killed(
    stage: Stage, kafka_bootstrap: str, log_prefix: str, browser: Browser, page_url: str
) -> None:
    deployment = Deployment(
        stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2, settings={"http.origins": page_url}
    )
    await deployment.start()
    (ingest,), (first, second) = deployment.ingests, deployment.gateways
    ann_url = f"{page_url}/?server={ingest.url}&stream={first.url}&stream={second.url}"
    bob_url = f"{page_url}/?server={ingest.url}&stream={second.url}&stream={first.url}"
    ann = await ChatUser.with_token(browser, ann_url, "ann", token("ann"))
    bob = await ChatUser.with_token(browser, bob_url, "bob", token("bob"))
    said = await _talk(ann, bob, "all is well")
    first.kill9()
    said += await _talk(ann, bob, "one gateway is gone")
    first.start()
    await first.ready()
    second.kill9()
    said += await _talk(bob, ann, "the other gateway is gone")
    first.kill9()
    await expect(ann.page.locator("#notice")).to_be_visible(timeout=WAIT_MS)
    await ann.say("no gateway is there")
    await ann.picture("no-gateway")
    second.start()
    await second.ready()
    said += ["no gateway is there", *await _talk(ann, bob, "a gateway is back")]
    await expect(bob.message("no gateway is there")).to_be_visible(timeout=BACK_MS)
    assert sorted(await ann.all_messages()) == sorted(said)
    assert await ann.all_messages() == await bob.all_messages() == _of_history(ingest.url)
    await expect(ann.page.locator("#messages .pending")).to_have_count(0)
    assert ann.faults == [] and bob.faults == []


async def _talk(one: ChatUser, other: ChatUser, about: str) -> list[str]:
    """Both say something, and each sees what the other said; returns what was said."""
    said = []
    for number in range(3):
        for speaker, listener in ((one, other), (other, one)):
            said.append(f"{about}, {speaker.user} {number}")
            await speaker.say(said[-1])
            await expect(listener.message(said[-1])).to_be_visible(timeout=BACK_MS)
    return said


def _of_history(ingest: str) -> list[str]:
    path = "/api/v1/topics/chat.general/messages"
    answer = httpx.get(ingest + path, headers={"Authorization": f"Bearer {token('ann')}"}, trust_env=False)
    return [message["payload"]["text"] for message in json.loads(answer.content)["messages"]]
