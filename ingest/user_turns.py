"""The long questions of each user, one at a time: who asks for very much waits for himself, and nobody else for him."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from headgate.core.wire.errors import Refusal
from ingest.owners import ASK_S

RETRY_MS: Final = 1_000


class _Turn:
    """The turn of one user, and how many have it or wait for it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class UserTurns:
    """Users whose questions are being answered here; the length is their number."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def of(self, user_id: str) -> AsyncIterator[None]:
        """Holds the turn of a user. Raises Refusal `overloaded` where it does not come within ASK_S."""
        turn = self._turns.setdefault(user_id, _Turn())
        turn.users += 1
        try:
            await _acquire(turn.lock)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[user_id]


async def _acquire(lock: asyncio.Lock) -> None:
    try:
        async with asyncio.timeout(ASK_S):
            await lock.acquire()
    except TimeoutError:
        why = "other long questions of this user are being answered"
        raise Refusal("overloaded", why, retry_after_ms=RETRY_MS) from None
