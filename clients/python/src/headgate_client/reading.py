"""Reading what a topic keeps, page by page."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from headgate_client.api import FIRST_WAIT_S, PATIENCE_S, Api, topic_path
from headgate_client.errors import Problem, Unreachable
from headgate_client.frames import Gap, Message
from headgate_client.reconnection import Backoff

PAGE: Final = 1_000  # the most the server answers at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of history. `first_seq` and `last_seq` are those of all that the topic keeps, not of the page."""

    messages: list[Message]
    epoch: int
    first_seq: int
    last_seq: int
    complete: bool


async def page(api: Api, topic_id: str, params: dict[str, Any]) -> Page:
    """Reads one page. Raises Problem (`gone` for a position that is no longer kept), Unreachable."""
    answer = await api.request("GET", topic_path(topic_id, "/messages"), params=params)
    epoch = answer["epoch"]
    return Page(
        messages=[Message.of(frame, epoch) for frame in answer["messages"]],
        epoch=epoch,
        first_seq=answer["first_seq"],
        last_seq=answer["last_seq"],
        complete=answer.get("complete", True),
    )


async def everything(api: Api, topic_id: str, after_seq: int, to_seq: int | None) -> AsyncIterator[Message]:
    """Yields messages above `after_seq`, up to `to_seq`. Raises what `_whole_page` does."""
    while to_seq is None or after_seq < to_seq:
        found = await _whole_page(api, topic_id, after_seq)
        for message in found.messages:
            assert message.seq is not None
            if to_seq is not None and message.seq > to_seq:
                return
            after_seq = message.seq
            yield message
        if not found.messages or after_seq >= found.last_seq:
            return


async def refetch(api: Api, gap: Gap) -> AsyncIterator[Message]:
    """Yields what history still has of a gap, in order; nothing of one that cannot be recovered."""
    if not gap.recoverable or gap.from_seq is None or gap.to_seq is None:
        return
    try:
        async for message in everything(api, gap.topic_id, gap.from_seq - 1, gap.to_seq):
            if message.epoch != gap.epoch:
                return  # created again meanwhile: other messages
            yield message
    except Problem as problem:
        if problem.code != "gone":  # no longer kept
            raise


async def _whole_page(api: Api, topic_id: str, after_seq: int) -> Page:
    """Waits while the index cannot answer for the whole range: it is being rebuilt. Raises Problem, Unreachable."""
    backoff = Backoff(random.random, FIRST_WAIT_S)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = await page(api, topic_id, {"after_seq": after_seq, "limit": PAGE})
        if found.complete:
            return found
        pause = backoff.next_s()
        if time.monotonic() + pause > deadline:
            raise Unreachable(f"{topic_id}: the server cannot answer for all above {after_seq} yet")
        await asyncio.sleep(pause)
