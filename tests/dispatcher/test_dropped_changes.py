"""Frames that the index dropped for its bound are read from the log again, and folded the same way."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dispatcher.shard_runner import ShardRunner
from headgate.core.wire.control import LOGIC_KEY, MESSAGES_LOGIC, Actor, Logic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import keyed_id
from headgate.core.wire.message_changes import (
    EditMessage,
    MessageChange,
    ReactToMessage,
    RedactMessage,
    encode_event,
    event_tail,
)
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Log
from tests.dispatcher.bed import owner_in, owning, until
from tests.dispatcher.test_rebuild import options_in
from tests.dispatcher.test_recovery import KEY, a_log, caught_up, create

BOB = Actor("bob")
MESSAGES = 40


async def publish(log: Log, n: int, epoch: int) -> int:
    tail = b'"message_id":"m","publisher_id":"bob","payload":{"n":%d}}' % n
    value = encode_message(Item(keyed_id(KEY, "bob", str(n)), 0, tail), epoch)
    return (await log.append(LogName.MESSAGES, 0, KEY, value)).offset << 10


async def change(log: Log, what: MessageChange, n: int, epoch: int) -> None:
    record_id = keyed_id(KEY, "bob", f"change {n}")
    payload = b'"edited %d"' % n if isinstance(what, EditMessage) else b"null"
    value = encode_event(what, event_tail(record_id, what, payload), epoch, record_id)
    await log.append(LogName.MESSAGES, 0, KEY, value)


async def fill(log: Log, epoch: int) -> int:
    """Messages, then edits of every third, redactions of every fifth, reactions to every seventh; returns the head."""
    await log.append(LogName.MESSAGES, 0, LOGIC_KEY, encode_control(encode_body(Logic(MESSAGES_LOGIC)), 0))
    places = [await publish(log, n, epoch) for n in range(MESSAGES)]
    changes: list[MessageChange] = [EditMessage(n, places[n - 1], 1, BOB) for n in range(3, MESSAGES, 3)]
    changes += [RedactMessage(n, places[n - 1], True, BOB) for n in range(5, MESSAGES, 5)]
    changes += [ReactToMessage(n, places[n - 1], "+1", False, BOB) for n in range(7, MESSAGES, 7) if n % 5]
    for n, what in enumerate(changes):
        await change(log, what, n, epoch)
    return MESSAGES + len(changes)


async def read(runner: ShardRunner, epoch: int, head: int) -> list[dict[str, Any]]:
    """Reads all, page by page, from the log where that is needed."""
    owner, row = owner_in(runner), owner_in(runner).rows[KEY]
    frames: list[bytes] = []
    rounds = 0
    while len(frames) < head:
        span = owner.history.span(epoch, len(frames) + 1, 100, 1 << 20)
        frames += span.frames
        if span.absent:
            rounds += 1
            assert rounds < 200, "it never ends"
            loaded = asyncio.Event()
            owner.pages.want(row, span.absent, owner_asker(), loaded.set)
            await asyncio.wait_for(loaded.wait(), 5)
    return [json.loads(frame) for frame in frames]


class Open:
    """An asker that waits."""

    open = True


def owner_asker() -> Open:
    return Open()


@pytest.mark.parametrize("cold", [False, True])
async def test_a_dropped_frame_is_folded_like_one_that_is_here(tmp_path: Path, cold: bool) -> None:
    for name in ("whole", "small"):
        (tmp_path / name).mkdir()
    log = await a_log()
    epoch = await create(log)
    async with owning(log, options_in(tmp_path / "whole")) as runner:
        head = await fill(log, epoch)
        await caught_up(runner, head)
        expected = await read(runner, epoch, head)
    async with owning(log, options_in(tmp_path / ("small" if cold else "whole"), frame_bytes=1_500)) as runner:
        await caught_up(runner, head)
        history = owner_in(runner).history
        await until(lambda: history.complete and len(history.recent) == 0)
        await until(lambda: history.file is not None and history.file.frame_bytes <= 1_500)
        assert await read(runner, epoch, head) == expected
    told = {frame["seq"]: frame for frame in expected}
    assert told[3]["payload"] == "edited 0" and told[5]["redacted"] and told[7]["reactions"] == {"+1": 1}
