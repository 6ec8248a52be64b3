"""The files of the demo's page: those of its folder and nothing else, with types and a policy against scripts."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from headgate.cli.chat_page import chat_folder
from headgate.runtime.http.page_files import PageFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "page"
    (home / "inner").mkdir(parents=True)
    (home / "inner" / "hidden.js").write_text("hidden")
    for name in ("index.html", "look.css", "code.js", "icon.svg", "README.md", ".env"):
        (home / name).write_text(f"this is {name}")
    (tmp_path / "secret.js").write_text("secret")
    return home


async def ask(folder: Path, path: str, method: str = "GET") -> httpx.Response:
    app: Any = PageFiles(folder).before(PlainTextResponse("behind"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
        return await client.send(client.build_request(method, httpx.URL("http://page", raw_path=path.encode())))


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/look.css", "look.css", "text/css; charset=utf-8"),
        ("/code.js", "code.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "icon.svg", "image/svg+xml"),
    ],
)
async def test_a_file_of_the_page_has_its_type_and_the_policy(folder: Path, path: str, name: str, kind: str) -> None:
    answer = await ask(folder, path)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, f"this is {name}", kind)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "*" not in policy
    assert "script-src 'self';" in policy and "style-src 'self';" in policy and "frame-ancestors 'none'" in policy
    head = await ask(folder, path, "HEAD")
    assert (head.status_code, head.content, head.headers) == (200, b"", answer.headers)


@pytest.mark.parametrize(
    "path",
    ["/README.md", "/.env", "/inner/hidden.js", "/../secret.js", "/..%2fsecret.js", "/%2e%2e/secret.js", "//code.js",
     "/code.js/", "/index.html", "/CODE.JS", "/code.js%00", "/api/v1/topics"],
)  # fmt: skip
async def test_everything_else_is_for_the_application_behind_it(folder: Path, path: str) -> None:
    answer = await ask(folder, path)
    assert answer.text == "behind" and "content-security-policy" not in answer.headers


async def test_a_file_is_only_read(folder: Path) -> None:
    answer = await ask(folder, "/code.js", "POST")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (
        405, "method_not_allowed", "GET, HEAD",
    )  # fmt: skip


async def test_what_changes_after_the_start_is_not_served(folder: Path) -> None:
    files = PageFiles(folder)
    (folder / "late.js").write_text("late")
    assert files.paths == ["/", "/code.js", "/icon.svg", "/look.css"]


def test_the_chat_needs_nothing_inline() -> None:
    page = (chat_folder() / "index.html").read_text("utf-8")
    assert "<style" not in page and " style=" not in page and " on" + "click" not in page
    scripts = page.count("<script")
    assert scripts == page.count('<script type="module" src="') >= 1
