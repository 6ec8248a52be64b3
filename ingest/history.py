"""GET /api/v1/topics/{topic_id}/messages: a page of history, joined from frames without parsing them."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from headgate.core.publish.body import read_parent
from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import AskHistory, HistoryPage
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.queries import Query, integer, page_limit
from headgate.runtime.ports import Shell
from ingest.access import Access
from ingest.bounded_reads import BoundedReads
from ingest.owners import OUTCOME_S, OwnerQueries
from ingest.ports import IngestMetrics

NOT_GIVEN: Final = -1
_SEQ: Final = re.compile(rb'"seq":([0-9]+)')  # comes before anything that a publisher wrote


class Range(NamedTuple):
    """The part of the history that a query asks for, as in AskHistory: -1 where not given."""

    after_seq: int
    before_seq: int
    since_ts: int
    limit: int
    kinds: str = ""
    parent_id: bytes = b""

    @property
    def is_newest(self) -> bool:
        """Whether the newest messages are wanted, and not the oldest above a place."""
        return self.after_seq == self.since_ts == NOT_GIVEN


class HistoryEndpoint:
    """Answers with pages of a topic's history."""

    def __init__(self, access: Access, owners: OwnerQueries, reads: BoundedReads, shell: Shell[IngestMetrics]) -> None:
        self._access = access
        self._owners = owners
        self._reads = reads
        self._clock = shell.clock
        self._metrics = shell.metrics

    async def page(self, call: Call) -> Reply:
        """GET: answers with one page. Raises Refusal."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        return Reply(200, body_of(await self.read(call, topic_id, lambda: read_query(call.query))))

    async def read(self, call: Call, topic_id: str, query: Callable[[], Range]) -> HistoryPage:
        """Returns a page of the topic; `query` reads what is wanted once the caller may read. Raises Refusal."""
        with self._reads.one(call.caller):
            info = (await self._access.require(topic_id, call.caller, rights.may_subscribe, "read")).info
            wanted = query()
            if info.is_ephemeral:
                raise Refusal("not_in_profile", f"topic {topic_id} is ephemeral: its messages are not kept")
            began = self._clock.now()
            ask = self._some if wanted.kinds or wanted.parent_id else self._whole
            try:
                return await ask(call, topic_id, wanted, began + OUTCOME_S)
            finally:  # a store that does not answer is a slow one
                self._metrics.history_read(self._clock.now() - began)

    async def _some(self, call: Call, topic_id: str, wanted: Range, until: float) -> HistoryPage:
        """Returns a whole page from which messages are left out; an owner's answer ends at its bounds, at an `edge`."""
        first = page = await self._ask(call, topic_id, wanted)
        frames = first.frames
        while page.edge and page.complete and (left := wanted.limit - len(frames)) > 0:
            if wanted.is_newest:
                following = wanted._replace(before_seq=page.edge, limit=left)
            else:
                following = wanted._replace(after_seq=page.edge, since_ts=NOT_GIVEN, limit=left)
            page = await self._following(call, topic_id, first.epoch, following, until)
            frames = page.frames + frames if wanted.is_newest else frames + page.frames
        return HistoryPage(first.req, first.epoch, first.first_seq, first.last_seq, page.complete, frames)

    async def _whole(self, call: Call, topic_id: str, wanted: Range, until: float) -> HistoryPage:
        """Returns the whole page. An owner's answer is bounded in bytes, so large frames take several."""
        first = await self._ask(call, topic_id, wanted)
        if not first.frames or not first.complete:
            return first
        low, end = bounds(first, wanted)
        frames, complete = (first.frames, True) if seq_of(first.frames[0]) == low else ([], True)
        while complete and (last := seq_of(frames[-1]) if frames else low - 1) < end - 1:
            following = Range(last, end, NOT_GIVEN, end - 1 - last)
            more = await self._following(call, topic_id, first.epoch, following, until)
            if more.frames and seq_of(more.frames[0]) != last + 1:
                raise _moved()
            complete = more.complete and bool(more.frames)
            frames = frames + more.frames
        return HistoryPage(first.req, first.epoch, first.first_seq, first.last_seq, complete, frames)

    async def _following(self, call: Call, topic_id: str, epoch: int, wanted: Range, until: float) -> HistoryPage:
        """Returns the next frames. Raises Refusal `not_ready` when they were dropped meanwhile, or time is over."""
        if self._clock.now() > until:
            raise Refusal("not_ready", "reading the topic's history takes too long; ask for fewer messages")
        try:
            page = await self._ask(call, topic_id, wanted)
        except Refusal as refusal:
            raise _moved() if refusal.code == "gone" else refusal from None
        if page.epoch != epoch:
            raise _moved()
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
    kinds = query.get("kinds", "")
    if kinds not in ("", "message"):
        raise Refusal("bad_request", "kinds must be message; without it there are edits, redactions and reactions too")
    parent_id = read_parent(query.get("parent_message_id"))
    after_seq, before_seq, since_ts = (
        integer(query, name, NOT_GIVEN) for name in ("after_seq", "before_seq", "since_ts")
    )
    return Range(after_seq, before_seq, since_ts, page_limit(query), kinds, parent_id)


def bounds(first: HistoryPage, wanted: Range) -> tuple[int, int]:
    """Returns the page's first seq, and its last plus 1; `first` is the owner's first answer, which has frames."""
    above = first.last_seq + 1
    if wanted.before_seq != NOT_GIVEN:
        above = min(above, wanted.before_seq)
    if wanted.is_newest:
        return max(above - wanted.limit, first.first_seq), above
    low = seq_of(first.frames[0])
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


def seq_of(frame: bytes) -> int:
    """Returns the seq of a durable message's frame."""
    found = _SEQ.search(frame)
    assert found is not None
    return int(found[1])


def _moved() -> Refusal:
    return Refusal("not_ready", "the topic's history changed while it was read; try again")
