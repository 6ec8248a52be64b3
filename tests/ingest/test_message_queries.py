"""ingest.message_queries: lists of versions are made a few at a time, and only where they can be held."""

import asyncio
from typing import Any

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import random_id
from headgate.core.wire.link_messages import AskMessage
from headgate.runtime.http.memory_budget import MemoryBudget
from ingest.message_queries import LIST_BYTES, LISTS, MessageQueries
from ingest.owners import ASK_S, OwnerQueries
from tests.ingest.parts import ANA, Parts, play

MESSAGE = random_id(b"t", bytes(12))


class SlowDirectory:
    """One shard whose owner answers when the test says so."""

    shards = 1

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Any]] = []

    def shard_of(self, topic_id: str) -> int:
        return 0

    def ask(self, shard: int, build: Any) -> "asyncio.Future[Any]":
        assert isinstance(build(1), AskMessage) and build(1).versions
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


def test_few_lists_of_versions_are_asked_for_at_a_time() -> None:
    async def scene(parts: Parts) -> None:
        directory = SlowDirectory()
        queries = MessageQueries(OwnerQueries(directory, parts.clock))  # type: ignore[arg-type]
        share = MemoryBudget().share()
        asking = [asyncio.ensure_future(queries.ask_versions(ANA, "t", MESSAGE, share)) for _ in range(LISTS + 2)]
        await asyncio.sleep(0.1)
        assert len(directory.asked) == LISTS
        directory.asked[0].set_exception(Refusal("forbidden", "no"))
        await asyncio.sleep(0.1)
        assert len(directory.asked) == LISTS + 1, "a refusal too lets the next ask"
        await asyncio.sleep(ASK_S)
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        codes = [outcome.code for outcome in outcomes if isinstance(outcome, Refusal)]
        assert codes == ["forbidden", "not_ready", "not_ready", "overloaded"]

    play(scene)


def test_what_could_not_be_held_is_not_asked_for() -> None:
    async def scene(parts: Parts) -> None:
        directory = SlowDirectory()
        queries = MessageQueries(OwnerQueries(directory, parts.clock))  # type: ignore[arg-type]
        budget = MemoryBudget(max_user_bytes=2 * LIST_BYTES)
        with budget.share() as other, budget.share() as share:
            share.open("ana", 0)
            other.open("ana", LIST_BYTES)
            with pytest.raises(Refusal, match="overloaded"):
                await queries.ask_versions(ANA, "t", MESSAGE, share)
            assert directory.asked == []

    play(scene)
