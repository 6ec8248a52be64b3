"""An owner with the topic `t`, some messages of it, and its dead-letter log, which is read while `run` runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headgate.core.delivery.dead_letter_record import DeadLetterRecord, decode_letter
from headgate.core.wire import link
from headgate.core.wire.link_dead_letters import (
    AskDeadLetters,
    ChangeDeadLetter,
    DeadLettersAnswer,
    GiveUp,
    LetterShown,
    Receiver,
    Redeliver,
)
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.log_suite import read_from
from tests.dispatcher.bed import until
from tests.dispatcher.members_bed import Far
from tests.dispatcher.messages_bed import ANN, MessagesBed

PHONE = Receiver("bob", "phone")


async def records_of(log: FaultyLog) -> list[DeadLetterRecord]:
    bounds = await log.bounds(LogName.DEAD_LETTERS, 0)
    records = await read_from(log, LogName.DEAD_LETTERS, 0, bounds.first, bounds.end - bounds.first)
    return [decode_letter(record.value) for record in records]


class LettersBed(MessagesBed):
    """`log` holds the dead letters only: messages are fed by hand."""

    def __init__(self, log: FaultyLog, permissions: str = "PUBLIC", messages: int = 3) -> None:
        super().__init__(permissions)
        self.log = log
        self.owner.letters._log = self.owner.letters.follower._log = self.owner.outputs._log = log
        self.owner.caught_up.set()
        for n in range(1, messages + 1):
            self.publish({"n": n})

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Reads the log meanwhile."""
        task = asyncio.create_task(self.owner.letters.follow_log())
        try:
            await until(lambda: self.owner.letters.is_complete)
            yield
        finally:
            task.cancel()

    async def answer(self, message: Any, peer: Far | None = None) -> Any:
        """Returns the answer to a request, when it comes."""
        peer, count = peer or Far(), 0 if peer is None else len(peer.sent)
        self.api.handle(peer, message)
        await until(lambda: len(peer.sent) > count)
        return peer.sent.pop()

    async def give_up(self, seq: int, receiver: Receiver = PHONE, error: str = "down", attempts: int = 3) -> Any:
        return await self.answer(GiveUp(1, "t", self.row.epoch, seq, receiver, attempts, "max_attempts", error))

    async def listed(self, topic_id: str = "t", caller: Caller = ANN, after: str = "", limit: int = 100) -> Any:
        return await self.answer(AskDeadLetters(1, 0, topic_id, caller, after, limit))

    async def letters(self, caller: Caller = ANN) -> list[LetterShown]:
        answer = await self.listed(caller=caller)
        assert isinstance(answer, DeadLettersAnswer), answer
        return answer.letters

    async def decide(self, letter_id: str, *, purge: bool = False, caller: Caller = ANN) -> Any:
        return await self.answer(ChangeDeadLetter(1, 0, letter_id, caller, purge))

    def subscriber(self) -> Far:
        """A gateway that hosts the topic and has taken all that it was sent."""
        peer = Far()
        self.ask(link.AskSubscribe(1, "t", ANN), peer)
        peer.taken()
        return peer


def redelivered(peer: Far) -> list[Redeliver]:
    """What a gateway was sent to deliver again since the last call."""
    return [message for message in peer.taken() if isinstance(message, Redeliver)]
