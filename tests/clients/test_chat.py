"""The chat of the examples in a real browser, as far as one page without hands shows it."""

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.vectors.served import ROOT, Served

TEXT = "<b>bold</b> <script>alert(1)</script>"
BROWSER_MS = 12_000


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def pages() -> Iterator[str]:
    """The repository's files on a web server, as the README of the example says."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(ROOT)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.usefixtures("built")
def test_the_page_shows_messages_people_and_reactions_and_escapes_what_it_is_told(
    served: Served, pages: str, tmp_path: Path
) -> None:
    with httpx.Client(base_url=served.url, params={"user": "bob"}, trust_env=False) as bob:
        room = {"topic_id": "chat.room", "name": "<i>room</i>", "settings": {"presence": "list"}}
        assert bob.post("/api/v1/topics", json=room).status_code == 201
        path = "/api/v1/topics/chat.room"
        answer = bob.post(f"{path}/publish", json={"payload": {"text": TEXT}}, params={"wait": "sequenced"}).json()
        reaction = f"{path}/messages/{answer['message_id']}/reactions/{quote('wow')}"
        assert bob.put(reaction).status_code == 204
    page = _dom(f"{pages}/examples/chat/?server={served.url}&user=ann&channel=chat.room", tmp_path)
    assert "&lt;b&gt;bold&lt;/b&gt; &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;i&gt;room&lt;/i&gt;" in page and "<i>room" not in page
    assert "wow 1" in page
    assert "● ann" in page and ">online<" in page


def _dom(url: str, home: Path) -> str:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        because = "no chromium on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(because)
        pytest.skip(because)
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home / 'profile'}",
        f"--virtual-time-budget={BROWSER_MS}", f"--timeout={BROWSER_MS}", "--dump-dom", url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
