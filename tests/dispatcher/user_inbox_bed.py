"""The owner of a shard with users' inboxes, gateways, and a log that it writes and reads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dispatcher.announcements import Announcements
from dispatcher.shard import Destination
from dispatcher.user_questions import UserQuestions
from dispatcher.user_side import UserSide, UserSideMessage
from headgate.core.wire.inbox_record import HeadEntry, MembershipRecord, encode_head, encode_inbox, records_of_heads
from headgate.core.wire.link_inbox import AskInbox, AskMissedTopics, InboxTopic, MarksMoved, MoveMarks, ReadMark
from headgate.core.wire.link_users import AttachUsers, UserRoute, UsersChanged
from headgate.core.wire.records import LogName
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.dispatcher.bed import configured_shard, owner_of, shell_of, until
from tests.dispatcher.members_bed import Far
from tests.dispatcher.test_recovery import a_log


def mark(seq: int, user: str = "ann", topic: str = "t", epoch: int = 7, n: int | None = None) -> ReadMark:
    return ReadMark(user, topic, epoch, seq, seq if n is None else n)


class InboxBed:
    """Two gateways, which have announced their users; an ingest that asks."""

    def __init__(self, log: FaultyLog) -> None:
        self.log = log
        self.gateways = [Far(), Far()]
        self.ingest = Far()
        self.shell = shell_of()
        self.questions = UserQuestions()
        self.owner = owner_of(configured_shard(), log=log)
        self.announcements = Announcements[Destination](self.gateways)
        self.side = UserSide(self.owner, self.questions, self.announcements, self.shell)
        self.reqs = 0

    def attach(self, at: int, *users: str) -> None:
        self.side.handle(self.gateways[at], AttachUsers(0, True, True, [UserRoute(user, 1) for user in users]))

    def change(self, at: int, **users: int) -> None:
        self.side.handle(self.gateways[at], UsersChanged(0, [UserRoute(user, count) for user, count in users.items()]))

    async def wrote(self, user: str, *found: MembershipRecord) -> None:
        """Writes memberships, and waits until they are read."""
        for each in found:
            at = await self.log.append(LogName.INBOX, 0, user.encode(), encode_inbox(each))
        await self._read(at.offset)

    async def joined(self, user: str, *topics: str, seq: int = 0, n: int = 0) -> None:
        await self.wrote(user, *[MembershipRecord(topic, 7, 1, "member", seq, n, 1) for topic in topics])

    async def heads(self, *found: HeadEntry) -> None:
        for value, _ in records_of_heads(0, [encode_head(head) for head in found]):
            at = await self.log.append(LogName.INBOX, 0, None, value)
        await self._read(at.offset)

    async def moved(self, topic: str, seq: int, n: int | None = None) -> None:
        await self.heads(HeadEntry(topic, 7, seq, seq if n is None else n, seq * 10))

    async def _read(self, offset: int) -> None:
        await until(lambda: self.owner.inbox.users.next_offset > offset)

    def ask(self, message: UserSideMessage) -> int:
        self.side.handle(self.ingest, message)
        return self.reqs

    def inbox(self, user: str = "ann", device: str = "phone", after: str = "", limit: int = 100) -> int:
        self.reqs += 1
        return self.ask(AskInbox(self.reqs, user, device, after, limit))

    def missed(self, user: str = "ann", device: str = "phone", after_ts: int = -1, after_id: str = "") -> int:
        self.reqs += 1
        return self.ask(AskMissedTopics(self.reqs, user, device, after_ts, after_id))

    def mark(self, *marks: ReadMark) -> int:
        self.reqs += 1
        return self.ask(MoveMarks(self.reqs, 0, list(marks)))

    async def marked(self, *marks: ReadMark) -> None:
        """Stores read marks."""
        req = self.mark(*marks)
        assert await self.answer() == MarksMoved(req)

    async def answer(self) -> Any:
        """The one answer that the ingest gets."""
        await until(lambda: self.ingest.sent)
        (message,) = self.ingest.taken()
        return message

    async def topics(self, user: str = "ann") -> list[InboxTopic]:
        self.inbox(user)
        found: list[InboxTopic] = (await self.answer()).topics
        return found


@asynccontextmanager
async def inbox_bed(users: Sequence[Sequence[str]] = ((), ()), *, whole: bool = True) -> AsyncIterator[InboxBed]:
    """A bed whose owner reads its inbox log, and with `whole` has read it to the end; `users` are at the gateways."""
    log = await a_log()
    bed = InboxBed(log)
    for at, some in enumerate(users):
        bed.attach(at, *some)
    for gateway in bed.gateways:
        gateway.taken()  # what each is told of the other's users
    bed.owner.inbox.users.next_offset = (await log.bounds(LogName.INBOX, 0)).first
    if whole:
        bed.owner.caught_up.set()
    task = asyncio.create_task(bed.owner.inbox.follow_log())
    if whole:
        await until(lambda: bed.owner.inbox.is_complete)
    try:
        yield bed
    finally:
        bed.side.close()
        bed.owner.close()
        task.cancel()
        await asyncio.wait([task])
