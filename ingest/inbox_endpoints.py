"""The inbox over HTTP: a user's topics and what is unread, what a device has missed, and what was got or read."""

from typing import Any, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER, check_topic_id
from headgate.core.wire.link_inbox import PAGE_TOPICS, AskInbox, InboxAnswer, InboxTopic
from headgate.core.wire.rights import may_be_told_of
from headgate.runtime.http.call import NO_CONTENT, Call, Handler, Reply, reply
from headgate.runtime.http.queries import page_limit
from headgate.runtime.ports import Clock
from ingest.bounded_reads import BoundedReads
from ingest.inbox_marks import InboxMark, InboxMarks, check_device_id, read_mark
from ingest.missed_search import MissedSearch
from ingest.owners import OwnerQueries
from ingest.pages import read_page, write_page
from ingest.user_turns import UserTurns


class _Ack(NamedTuple):
    seq: int
    mark: InboxMark


class InboxEndpoints:
    """The handlers of `/api/v1/inbox` and of what is below it. Each request counts as a read.

    Of one user's inbox one page is made at a time: that of a user of very many topics takes its owner long.
    """

    def __init__(
        self, owners: OwnerQueries, marks: InboxMarks, reads: BoundedReads, clock: Clock, turns: UserTurns
    ) -> None:
        self._owners = owners
        self._marks = marks
        self._reads = reads
        self._clock = clock
        self._turns = turns

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by name."""
        return {"list_inbox": self.listed, "missed_messages": self.missed, "ack_inbox": self.ack}

    async def listed(self, call: Call) -> Reply:
        """GET: a page of the caller's topics, ascending by id. Raises Refusal."""
        device_id, limit = check_device_id(call.query.get("device_id")), page_limit(call.query)
        after, caller = read_page(call.query.get("page"), check_topic_id), call.caller
        user_id, told = caller.user_id, caller if caller.only else None
        # One more than are shown tells that the page is not the last. An owner gives no more than PAGE_TOPICS.
        asked = min(limit + 1, PAGE_TOPICS)
        with self._reads.one(caller):
            async with self._turns.of(user_id):
                answer = await self._owners.ask(
                    self._owners.shard_of_user(user_id),
                    lambda req: AskInbox(req, user_id, device_id, after, asked, told),
                )
        assert isinstance(answer, InboxAnswer)
        page = answer.topics[:limit]
        is_last = len(answer.topics) < asked
        # An owner of an older version tells all of them.
        shown = [topic_shown(topic) for topic in page if may_be_told_of(caller, topic.topic_id)]
        return reply({"topics": shown, "next_page": None if is_last else write_page(page[-1].topic_id)})

    async def missed(self, call: Call) -> Reply:
        """GET messages: what the device has missed, oldest topics first. Raises Refusal."""
        device_id, limit = check_device_id(call.query.get("device_id")), page_limit(call.query)
        with self._reads.one(call.caller):
            async with self._turns.of(call.caller.user_id):
                frames, is_more = await MissedSearch(self._owners, self._clock, call, device_id, limit).run()
        return Reply(200, b'{"messages":[%b],"more":%b}' % (b",".join(frames), b"true" if is_more else b"false"))

    async def ack(self, call: Call) -> Reply:
        """POST: what a device got, or the user has read, up to a seq of a topic. Raises Refusal."""
        members = call.json_object()
        topic_id = members.get("topic_id")
        if not isinstance(topic_id, str):
            raise Refusal("bad_request", "topic_id must be a string")
        check_topic_id(topic_id)
        with self._reads.one(call.caller):
            try:
                ack = _read_ack(call, members)
            except Refusal:
                await self._marks.resolve_seq(call.caller, topic_id, 0)  # a topic that is not there is told first
                raise
            place = await self._marks.resolve_seq(call.caller, topic_id, ack.seq)
            await self._marks.store(call.caller, ack.mark, place)
        return NO_CONTENT


def topic_shown(topic: InboxTopic) -> dict[str, Any]:
    """Returns a topic of the inbox."""
    return {
        "topic_id": topic.topic_id,
        "epoch": topic.epoch,
        "mode": topic.mode,
        "head_seq": topic.head_seq,
        "cursor_seq": topic.cursor_seq,
        "read_seq": topic.read_seq,
        "unread": topic.unread,
    }


def _read_ack(call: Call, members: dict[str, Any]) -> _Ack:
    seq = members.get("seq")
    if type(seq) is not int or not 0 <= seq <= MAX_INTEGER:
        raise Refusal("bad_request", f"seq must be an integer from 0 to {MAX_INTEGER}")
    return _Ack(seq, read_mark(call, members))
