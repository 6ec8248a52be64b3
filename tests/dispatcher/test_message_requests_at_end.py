"""A message that its owner does not know yet is looked for again once all that the log holds is applied."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher import log_end as module
from dispatcher.log_end import MAX_WAITING, LogEnd
from headgate.core.wire import link
from headgate.core.wire.ids import random_id
from headgate.core.wire.link_messages import AskMessage, MessageAnswer
from tests.dispatcher.members_bed import KEY, RNG, Far
from tests.dispatcher.messages_bed import BOB, MessagesBed
from tests.dispatcher.test_log_end import Ends, turns


@asynccontextmanager
async def behind(records: int) -> AsyncIterator[MessagesBed]:
    """An owner whose log holds so many records more than it has applied."""
    bed = MessagesBed()
    bed.owner.history.log_begins(0)
    bed.publish("a")
    end = bed.owner.log_end = LogEnd(Ends(bed.offset + records), 0, 0)  # type: ignore[arg-type]
    end.applied(bed.offset)
    task = asyncio.create_task(end.run())
    try:
        yield bed
    finally:
        task.cancel()


def ask(bed: MessagesBed, message_id: bytes, *, topic_id: str = "t") -> Far:
    far = Far()
    bed.api.handle(far, AskMessage(1, 0, topic_id, BOB, message_id, "read"))
    return far


@pytest.mark.parametrize("topic_id", ["t", ""])
async def test_a_message_that_was_just_published_is_found(topic_id: str) -> None:
    async with behind(1) as bed:
        message_id = random_id(KEY, RNG.entropy(12))
        far = ask(bed, message_id, topic_id=topic_id)
        await turns()
        assert far.sent == [], "the log holds one record more"
        bed.publish("b", record_id=message_id)
        bed.owner.log_end.applied(bed.offset)
        await turns()
        (answer,) = far.sent
        assert isinstance(answer, MessageAnswer)
        assert answer.seq == 2


async def test_one_that_the_log_does_not_hold_is_not_there() -> None:
    async with behind(0) as bed:
        far = ask(bed, bytes(16))
        await turns()
        (answer,) = far.sent
        assert isinstance(answer, link.Refused)
        assert answer.code == "message_not_found"


async def test_an_owner_that_stays_behind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APPLIED_S", 0.02)
    async with behind(1) as bed:
        far = ask(bed, bytes(16))
        async with asyncio.timeout(5):
            while not far.sent:
                await asyncio.sleep(0.01)
        (answer,) = far.sent
        assert isinstance(answer, link.Refused)
        assert answer.code == "not_ready"


async def test_a_message_that_is_known_waits_for_nothing() -> None:
    async with behind(1) as bed:
        far = ask(bed, bed.ids[1])
        assert isinstance(far.sent[0], MessageAnswer)


async def test_who_waits_is_bounded() -> None:
    async with behind(1) as bed:
        waiting = [ask(bed, bytes(16)) for _ in range(MAX_WAITING)]
        refused = ask(bed, bytes(16))
        assert not any(far.sent for far in waiting)
        (answer,) = refused.sent
        assert isinstance(answer, link.Refused)
        assert answer.code == "not_ready"
