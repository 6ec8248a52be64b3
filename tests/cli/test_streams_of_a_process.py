"""Standard input, output and error that are closed, full or gone; and what others wrote, on a terminal."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Headgate
from tests.cli.twin import Twin

SECRET = "a-secret-of-at-least-32-characters"


def in_shell(headgate: Headgate, words: list[str], redirection: str) -> Done:
    """Runs it with one of its streams as a shell makes it; a stream without output reads as empty."""
    command = shlex.join([sys.executable, "-W", "error", "-m", "headgate.cli.main", *words])
    done = subprocess.run(
        ["sh", "-c", f"{command} {redirection}"], cwd=headgate.folder, env=headgate.environ, capture_output=True,
        stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    ("words", "redirection", "what"),
    [
        (["publish", "t", "-"], "<&-", "input"),
        (["restore", "-", "--data", "two"], "<&-", "input"),
        (["publish", "t", "1"], ">&-", "output"),
        (["topics", "list"], ">&-", "output"),
        (["--version"], ">&-", "output"),
        (["token", "mint", "--sub", "u", "--auth.secret", SECRET], ">&-", "output"),
    ],
)
def test_a_stream_that_is_closed_is_a_wrong_command(
    headgate: Headgate, twin: Twin, words: list[str], redirection: str, what: str
) -> None:
    more = ["--url", twin.url] if words[0] in ("publish", "topics") else []
    done = in_shell(headgate, words + more, redirection)
    assert (done.status, done.out, done.err) == (2, "", f"standard {what} is closed\n")


def test_without_standard_error_the_status_says_it(headgate: Headgate, twin: Twin) -> None:
    done = in_shell(headgate, ["history", "t", "--limit", "0"], "2>&-")
    assert (done.status, done.out) == (2, "")
    done = in_shell(headgate, ["publish", "t", "1", "--url", twin.url], "2>&-")
    assert (done.status, done.out.count("\n")) == (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["config"], ["--version"], ["publish", "t", "1"], ["topics", "create", "t"]])
def test_a_full_disk_is_one_line(headgate: Headgate, twin: Twin, words: list[str]) -> None:
    more = ["--url", twin.url] if words[0] in ("publish", "topics") else []
    if words[0] == "topics":
        twin.next((201, {}, {"topic_id": "t", "name": "t"}))
    done = in_shell(headgate, words + more, ">/dev/full")
    assert (done.status, done.err) == (1, "standard output: No space left on device\n")


def test_a_terminal_gets_no_control_characters_of_others(headgate: Headgate, twin: Twin) -> None:
    bad = "x\x1b]0;owned\x07\x7f\x9b\r\n"
    topic = {"topic_id": "t", "name": bad, "owner_id": "ana"}
    twin.next((200, {}, {"topics": [topic], "next_page": None}))
    shown = r"x\x1b]0;owned\x07\x7f\x9b\x0d\x0a"
    assert headgate.on_terminal("topics", "list", "--url", twin.url).out == f"t  {shown}\n"
    twin.next((200, {}, topic | {bad: 1}))
    assert headgate.on_terminal("topics", "get", "t", "--url", twin.url).out.splitlines()[1].endswith(f"  {shown}")
    twin.next((403, {}, {"code": "forbidden", "detail": bad}))
    assert headgate("topics", "get", "t", "--url", twin.url).err == f"403 forbidden: {shown}\n"
    twin.next((200, {}, topic))
    assert headgate("topics", "get", "t", "--url", twin.url).lines == [topic], "a program gets it as it is"
