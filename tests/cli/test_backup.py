"""`headgate backup` and `headgate restore` as a person and as a script run them, on embedded logs."""

import asyncio
import json
from pathlib import Path

from headgate.runtime.logs.sqlite_log import SqliteLog
from tests.cli.conftest import Command, Headgate
from tests.dispatcher.restore_bed import CLOCK, RNG, Filling, state_in


def made(folder: Path) -> None:
    """Makes the log of a `headgate dev --data` that has ended."""

    async def make() -> None:
        log = SqliteLog(folder / "log.db", CLOCK, RNG)
        await log.open()
        fill = Filling(log)
        for topic in "abc":
            await fill.topic(topic, messages=5)
            await fill.join(topic, "bob")
        await fill.cursor("bob", "a", 2)
        await log.close()

    asyncio.run(make())


def test_a_folder_is_backed_up_and_restored_into_an_empty_one(headgate: Headgate, tmp_path: Path) -> None:
    made(tmp_path / "one")
    done = headgate("backup", "--data", "one", "--out", "file.ndjson")
    assert (done.status, done.err) == (0, "")
    file = tmp_path / "file.ndjson"
    counts = {"manifest": 1, "shard": 4, "topic": 3, "member": 6, "cursor": 1}
    assert done.lines == [{"file": "file.ndjson", "bytes": file.stat().st_size} | counts]
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*.part")) == []
    restored = headgate("restore", "-", "--data", "two", "--json", stdin=file.read_bytes())
    assert (restored.status, restored.err) == (0, "")
    assert (restored.lines[0]["generation"], restored.lines[0]["members"]) == (2, 6)
    piped = headgate("backup", "--log.url", "sqlite:two/log.db")
    assert piped.status == 0
    assert {line["type"] for line in piped.lines} == {"manifest", "shard", "topic", "member", "cursor", "end"}
    assert piped.err.startswith("3 topic lines, 6 member lines")
    assert state_in(piped.out.encode()) == state_in(file.read_bytes())


def test_a_person_reads_one_line_and_needs_a_file(headgate: Headgate, tmp_path: Path) -> None:
    made(tmp_path / "one")
    done = headgate.on_terminal("backup", "--data", "one")
    assert (done.status, done.out) == (2, "")
    assert "--out FILE" in done.err
    done = headgate.on_terminal("backup", "--data", "one", "--out", "file.ndjson")
    assert "file.ndjson  3 topic lines" in done.out
    done = headgate.on_terminal("restore", "file.ndjson", "--data", "two")
    assert "2 generation" in done.out and "3 topics" in done.out


def test_what_cannot_be_is_refused_in_one_line(at_once: Command, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text('{"type":"manifest","format":2}\n')
    for status, why, *arguments in (
        (2, "log.url is not set", "backup"),
        (2, "memory:", "backup", "--log.url", "memory:"),
        (1, "no such log", "backup", "--data", "nowhere"),
        (1, "No such file", "restore", "nothing", "--data", "two"),
        (1, "has format 2, this version reads 1", "restore", "bad", "--data", "two"),
    ):
        done = at_once(*map(str, arguments))
        assert (done.status, done.out) == (status, ""), arguments
        assert str(why) in done.err
        assert done.err.count("\n") == 1


def test_a_file_that_was_damaged_and_a_log_that_is_used_are_refused(at_once: Command, tmp_path: Path) -> None:
    made(tmp_path / "one")
    assert at_once("backup", "--data", "one", "--out", "file").status == 0
    used = at_once("restore", "file", "--data", "one")
    assert used.status == 1 and "has been used" in used.err
    lines = (tmp_path / "file").read_bytes().splitlines(keepends=True)
    (tmp_path / "short").write_bytes(b"".join(lines[:3] + lines[4:]))
    damaged = at_once("restore", "short", "--data", "two")
    assert damaged.status == 1 and "checksum" in damaged.err
    other = at_once("backup", "--data", "one", "--log.shards", "3", "--out", "file")
    assert other.status == 2 and "has 4 shards" in other.err
    whole = at_once("restore", "file", "--data", "two", "--generation", "7")
    assert whole.status == 0 and json.loads(whole.out)["generation"] == 7
