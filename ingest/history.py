"""GET /api/v1/topics/{topic_id}/messages: a page of history, its body joined from frames that nobody parses."""

from typing import Final

from headgate.core import rights
from headgate.core.errors import Refusal
from headgate.core.ids import check_topic_id
from headgate.core.link import AskHistory, HistoryPage
from ingest.catalog import Catalog
from ingest.exchange import Call, Query, Reply, integer, page_limit
from ingest.owners import Owners

NOT_GIVEN: Final = -1


class History:
    """The handler."""

    def __init__(self, catalog: Catalog, owners: Owners) -> None:
        self._catalog = catalog
        self._owners = owners

    async def page(self, call: Call) -> Reply:
        """The handler."""
        topic_id = check_topic_id(call.segments[0])
        info = await self._catalog.get(topic_id)
        rights.require(rights.may_subscribe(call.caller, info), call.caller, info, "read")
        after_seq, before_seq, since_ts, limit = read_query(call.query)
        if info.settings["profile"] == "ephemeral":
            raise Refusal("not_in_profile", f"topic {topic_id} is ephemeral: its messages are not kept")
        answer = await self._owners.ask(
            self._owners.shard_of(topic_id),
            lambda req: AskHistory(req, topic_id, call.caller, after_seq, before_seq, since_ts, limit),
        )
        assert isinstance(answer, HistoryPage)
        return Reply(200, body_of(answer))


def read_query(query: Query) -> tuple[int, int, int, int]:
    """Returns `after_seq`, `before_seq`, `since_ts` (NOT_GIVEN where absent) and `limit`. Raises `bad_request`."""
    kinds = query.get("kinds", "message")
    if kinds != "message":
        raise Refusal("bad_request", "kinds must be message; edits, redactions and reactions are not built yet")
    after_seq, before_seq, since_ts = (
        integer(query, name, NOT_GIVEN) for name in ("after_seq", "before_seq", "since_ts")
    )
    return after_seq, before_seq, since_ts, page_limit(query)


def body_of(page: HistoryPage) -> bytes:
    """Returns the JSON of a page."""
    return b'{"messages":[%b],"epoch":%d,"first_seq":%d,"last_seq":%d,"complete":%b}' % (
        b",".join(page.frames),
        page.epoch,
        page.first_seq,
        page.last_seq,
        b"true" if page.complete else b"false",
    )
