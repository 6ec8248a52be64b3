"""The owner of a shard with users' cursors, gateways, and a log that it writes and reads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dispatcher.announcements import Announcements
from dispatcher.cursor_requests import CursorRequests
from dispatcher.shard import Destination
from dispatcher.user_questions import UserQuestions
from headgate.core.wire.inbox_record import CursorsRecord, decode_inbox
from headgate.core.wire.link_acks import (
    Cursor,
    CursorAnswer,
    CursorLease,
    CursorsMoved,
    MoveCursors,
    OpenCursor,
    ReplaceSubscription,
    SubscriptionReplaced,
)
from headgate.core.wire.records import LogName
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.log_suite import read_from
from tests.dispatcher.bed import configured_shard, owner_of, until
from tests.dispatcher.members_bed import Far
from tests.dispatcher.test_recovery import a_log


def cursor(seq: int, user: str = "ann", device: str = "phone", topic: str = "t", epoch: int = 7, **more: Any) -> Cursor:
    return Cursor(user, device, topic, epoch, seq, **more)


def lease(connection: str, opened: int, user: str = "ann", topic: str = "t") -> CursorLease:
    return CursorLease(user, "phone", topic, connection, opened)


class CursorsBed:
    """Two gateways, which have announced their users. `records` are those of cursors in the log."""

    def __init__(self, log: FaultyLog, announced: Sequence[int] = (0, 1)) -> None:
        self.log = log
        self.gateways = [Far(), Far()]
        self.questions = UserQuestions()
        self.owner = owner_of(configured_shard(), log=log)
        self.owner.inbox.users.next_offset = 1 << 62  # until it reads
        self.announcements = Announcements[Destination](self.gateways)
        for at in announced:
            self.announcements.heard(self.gateways[at])
        self.api = CursorRequests(self.owner, self.questions, self.announcements)
        self.reqs = 0

    async def records(self) -> list[CursorsRecord]:
        bounds = await self.log.bounds(LogName.INBOX, 0)
        kept = await read_from(self.log, LogName.INBOX, 0, bounds.first, bounds.end - bounds.first)
        found = [decode_inbox(record.value) for record in kept]
        assert all(record.key is None for record in kept)
        return [record for record in found if isinstance(record, CursorsRecord)]

    def open(self, at: int, held: CursorLease | None = None, user: str = "ann", topic: str = "t") -> int:
        """Asks for ann's cursor of her phone from a gateway."""
        self.reqs += 1
        self.api.handle(self.gateways[at], OpenCursor(self.reqs, user, "phone", topic, held))
        return self.reqs

    def move(self, at: int, *cursors: Cursor) -> int:
        self.reqs += 1
        self.api.handle(self.gateways[at], MoveCursors(self.reqs, 0, list(cursors)))
        return self.reqs

    async def moved(self, *cursors: Cursor) -> None:
        """Stores cursors."""
        self.move(0, *cursors)
        await until(lambda: self.gateways[0].sent)
        assert isinstance(self.gateways[0].sent[-1], CursorsMoved)
        self.gateways[0].sent.clear()

    def found(self, at: int) -> Any:
        """The one thing that a gateway was sent."""
        (message,) = self.gateways[at].taken()
        return message

    def stored(self, user: str = "ann", topic: str = "t") -> Cursor | None:
        """The answer to a question without a lease."""
        self.open(0, None, user, topic)
        answer = self.gateways[0].sent.pop()
        assert isinstance(answer, CursorAnswer)
        return answer.cursor

    def asked_to_end(self, at: int) -> ReplaceSubscription:
        found = self.found(at)
        assert isinstance(found, ReplaceSubscription)
        return found

    def ended(self, at: int, question: ReplaceSubscription, last: Cursor | None) -> None:
        self.questions.answered(self.gateways[at], SubscriptionReplaced(question.req, last))


@asynccontextmanager
async def cursors_bed(announced: Sequence[int] = (0, 1), *, whole: bool = True) -> AsyncIterator[CursorsBed]:
    """A bed whose owner reads its inbox log, and with `whole` has read it to the end."""
    log = await a_log()
    bed = CursorsBed(log, announced)
    bed.owner.inbox.users.next_offset = (await log.bounds(LogName.INBOX, 0)).first
    if whole:
        bed.owner.caught_up.set()
    task = asyncio.create_task(bed.owner.inbox.follow_log())
    if whole:
        await until(lambda: bed.owner.inbox.is_complete)
    try:
        yield bed
    finally:
        bed.owner.close()
        bed.announcements.close()
        task.cancel()
        await asyncio.wait([task])
