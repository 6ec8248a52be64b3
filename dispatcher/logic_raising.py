"""Raises the logic of the served shards once every dispatcher that owns a shard knows it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from dispatcher.shard import ShardOwner
from headgate.core.wire.control import LOGIC, LOGIC_KEY, Logic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.records import LogName
from headgate.runtime.ports import Log, LogError

logger = structlog.get_logger("dispatcher")

INTERVAL_S: Final = 2.0


class LogicRaising:
    """Appends the Logic records. `run` is its task.

    `owners` are the shards that are served here, `agreed` returns the newest logic that the owners of all shards know.
    A record that is written twice, by this node or by a zombie, changes nothing.
    """

    def __init__(self, log: Log, owners: Mapping[int, ShardOwner], agreed: Callable[[], int]) -> None:
        self._log = log
        self._owners = owners
        self._agreed = agreed

    async def run(self) -> None:
        """Looks every INTERVAL_S seconds, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            level = min(self._agreed(), LOGIC)
            for owner in list(self._owners.values()):
                if owner.shard.config is not None and owner.shard.logic < level:
                    await self._raise(owner, level)

    async def _raise(self, owner: ShardOwner, level: int) -> None:
        try:
            value = encode_control(encode_body(Logic(level)), 0)
            await self._log.append(LogName.MESSAGES, owner.number, LOGIC_KEY, value)
        except LogError as error:
            logger.warning("the logic cannot be raised now", shard=owner.number, why=str(error))
        else:
            logger.info("logic raised", shard=owner.number, logic=level)
