"""ingest.user_turns: a user's long questions are asked one at a time, and those of others meanwhile."""

import asyncio

import pytest

from headgate.core.wire.errors import Refusal
from ingest.owners import ASK_S
from ingest.user_turns import UserTurns
from tests.ingest.parts import Parts, play


def test_a_user_who_asks_for_much_waits_for_himself_alone() -> None:
    async def scene(parts: Parts) -> None:
        turns, done, answer = UserTurns(), list[str](), asyncio.Event()

        async def ask(user_id: str) -> None:
            async with turns.of(user_id):
                done.append(user_id)
                if user_id == "ann":
                    await answer.wait()

        asking = [asyncio.ensure_future(ask(user_id)) for user_id in ("ann", "ann", "bob", "ann")]
        await asyncio.sleep(1)
        assert done == ["ann", "bob"] and len(turns) == 1
        asking[1].cancel()
        await asyncio.sleep(ASK_S)
        with pytest.raises(Refusal) as refusal:
            await asking[3]
        assert refusal.value.code == "overloaded" and refusal.value.retry_after_ms
        answer.set()
        await asking[0]
        await ask("ann")
        assert done == ["ann", "bob", "ann"] and len(turns) == 0

    play(scene)
