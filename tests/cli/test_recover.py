"""`headgate recover` as a person and as a script run it, on the log of a `headgate dev --data` that has ended."""

import asyncio
import json
from pathlib import Path

from headgate.core.wire.records import LogName
from headgate.runtime.logs.sqlite_log import SqliteLog
from tests.cli.conftest import Headgate
from tests.dispatcher.restore_bed import CLOCK, RNG
from tests.integration.test_declared_loss import filled, overtaken


def made(folder: Path, *, lost: bool) -> None:
    async def make() -> None:
        log = SqliteLog(folder / "log.db", CLOCK, RNG)
        await log.open()
        if lost:
            await overtaken(log)
        else:
            await filled(log)
        await log.close()

    asyncio.run(make())


def ends(folder: Path) -> list[tuple[int, int]]:
    async def read() -> list[tuple[int, int]]:
        log = SqliteLog(folder / "log.db", CLOCK, RNG)
        await log.open()
        try:
            return [await log.bounds(name, 0) for name in LogName]
        finally:
            await log.close()

    return asyncio.run(read())


def test_a_loss_is_shown_then_accepted_and_then_there_is_none(headgate: Headgate, tmp_path: Path) -> None:
    made(tmp_path / "one", lost=True)
    before = ends(tmp_path / "one")
    done = headgate("recover", "--shard", "0", "--data", "one")
    assert (done.status, done.err) == (3, "nothing was changed; --accept-loss gives this up\n")
    told = json.loads(done.out)
    assert (told["lost_to"] - told["lost_from"], told["messages"], told["accepted"]) == (2, 6, False)
    assert ends(tmp_path / "one") == before
    done = headgate.on_terminal("recover", "--shard", "0", "--data", "one")
    assert done.status == 3 and "6 messages" in done.out
    done = headgate("recover", "--shard", "0", "--data", "one", "--accept-loss")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["accepted"] is True
    done = headgate("recover", "--shard", "0", "--data", "one", "--accept-loss")
    assert (done.status, done.out) == (0, "")
    assert done.err == "shard 0 can be recovered without a loss: nothing was changed\n"
    assert headgate("backup", "--data", "one").status == 0


def test_a_shard_that_is_whole_or_not_there_is_left_alone(headgate: Headgate, tmp_path: Path) -> None:
    made(tmp_path / "one", lost=False)
    before = ends(tmp_path / "one")
    done = headgate("recover", "--shard", "1", "--data", "one", "--accept-loss")
    assert (done.status, done.out) == (0, "")
    for status, why, *arguments in (
        (2, "the log has the shards 0 to 3", "--shard", "4", "--data", "one"),
        (2, "--shard", "--data", "one"),
        (1, "there is no such log", "--shard", "0", "--data", "none"),
    ):
        done = headgate("recover", *arguments)
        assert (done.status, done.out) == (status, "") and why in done.err
    assert ends(tmp_path / "one") == before
