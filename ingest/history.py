"""GET /api/v1/topics/{topic_id}/messages: a page of history, joined from frames without parsing them."""

import re
from typing import Final, NamedTuple

from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import AskHistory, HistoryPage
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.queries import Query, integer, page_limit
from ingest.access import Access
from ingest.owners import OwnerQueries
from ingest.rates import Rates

NOT_GIVEN: Final = -1
_SEQ: Final = re.compile(rb'"seq":([0-9]+)')  # comes before anything that a publisher wrote


class Range(NamedTuple):
    """The part of the history that a query asks for, as in AskHistory: -1 where not given."""

    after_seq: int
    before_seq: int
    since_ts: int
    limit: int


class HistoryEndpoint:
    """Answers with pages of a topic's history."""

    def __init__(self, access: Access, owners: OwnerQueries, rates: Rates) -> None:
        self._access = access
        self._owners = owners
        self._rates = rates

    async def page(self, call: Call) -> Reply:
        """GET: answers with one page. Raises Refusal."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        self._rates.read(call.caller)
        info = (await self._access.require(topic_id, call.caller, rights.may_subscribe, "read")).info
        wanted = read_query(call.query)
        if info.is_ephemeral:
            raise Refusal("not_in_profile", f"topic {topic_id} is ephemeral: its messages are not kept")
        return Reply(200, body_of(await self._whole(call, topic_id, wanted)))

    async def _whole(self, call: Call, topic_id: str, wanted: Range) -> HistoryPage:
        """Returns the whole page. An owner's answer is bounded in bytes, so large frames take several."""
        first = await self._ask(call, topic_id, wanted)
        if not first.frames or not first.complete:
            return first
        low, end = bounds(first, wanted)
        frames, complete = (first.frames, True) if _seq_of(first.frames[0]) == low else ([], True)
        while complete and (last := _seq_of(frames[-1]) if frames else low - 1) < end - 1:
            more = await self._following(call, topic_id, first.epoch, Range(last, end, NOT_GIVEN, end - 1 - last))
            complete = more.complete and bool(more.frames)
            frames = frames + more.frames
        return HistoryPage(first.req, first.epoch, first.first_seq, first.last_seq, complete, frames)

    async def _following(self, call: Call, topic_id: str, epoch: int, wanted: Range) -> HistoryPage:
        """Returns the frames behind `after_seq`. Raises Refusal `not_ready` when they were dropped meanwhile."""
        moved = Refusal("not_ready", "the topic's history moved on while it was read; try again")
        try:
            page = await self._ask(call, topic_id, wanted)
        except Refusal as refusal:
            raise moved if refusal.code == "gone" else refusal from None
        if page.epoch != epoch or (page.frames and _seq_of(page.frames[0]) != wanted.after_seq + 1):
            raise moved
        return page

    async def _ask(self, call: Call, topic_id: str, wanted: Range) -> HistoryPage:
        answer = await self._owners.ask(
            self._owners.shard_of(topic_id), lambda req: AskHistory(req, topic_id, call.caller, *wanted)
        )
        assert isinstance(answer, HistoryPage)
        call.share.grow(2 * sum(map(len, answer.frames)))  # the frames, and the body made of them
        return answer


def read_query(query: Query) -> Range:
    """Reads the query. Raises Refusal `bad_request`."""
    kinds = query.get("kinds", "message")
    if kinds != "message":
        raise Refusal("bad_request", "kinds must be message; edits, redactions and reactions are not built yet")
    if "parent_message_id" in query:
        raise Refusal("bad_request", "parent_message_id (the replies to one message) is not built yet; leave it out")
    after_seq, before_seq, since_ts = (
        integer(query, name, NOT_GIVEN) for name in ("after_seq", "before_seq", "since_ts")
    )
    return Range(after_seq, before_seq, since_ts, page_limit(query))


def bounds(first: HistoryPage, wanted: Range) -> tuple[int, int]:
    """Returns the page's first seq, and its last plus 1; `first` is the owner's first answer, which has frames."""
    above = first.last_seq + 1
    if wanted.before_seq != NOT_GIVEN:
        above = min(above, wanted.before_seq)
    if wanted.after_seq == wanted.since_ts == NOT_GIVEN:
        return max(above - wanted.limit, first.first_seq), above
    low = _seq_of(first.frames[0])
    return low, min(above, low + wanted.limit)


def body_of(page: HistoryPage) -> bytes:
    """Returns the JSON of a page."""
    return b'{"messages":[%b],"epoch":%d,"first_seq":%d,"last_seq":%d,"complete":%b}' % (
        b",".join(page.frames),
        page.epoch,
        page.first_seq,
        page.last_seq,
        b"true" if page.complete else b"false",
    )


def _seq_of(frame: bytes) -> int:
    found = _SEQ.search(frame)
    assert found is not None
    return int(found[1])
