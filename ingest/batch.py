"""The batch endpoints: up to 1,000 publishes in one request, each with a result of its own.

Each step makes a list as long as the batch: bodies, checked publishes, pending answers, results. An item that is
refused in one step is a Refusal in the lists behind it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from headgate.core.publish.batch_body import cut_array, cut_lines
from headgate.core.publish.body import PublishBody, read_topic_id
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.rights import unknown_topic
from headgate.runtime.http.bodies import NDJSON
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.problem import members_of
from ingest.admission import Publish, Wait
from ingest.bundles import hand_over_all
from ingest.publish_reader import PublishReader
from ingest.publish_topics import PublishTopics
from ingest.publishing import Pending, Publishing, outcome_of
from ingest.rates import Rates


class BatchItem(NamedTuple):
    """An item of a batch whose items name their topics: its body and its topic, or why they could not be read."""

    body: PublishBody | Refusal
    topic_id: str | Refusal


class BatchEndpoints:
    """The endpoint of one topic and the endpoint of any; `item_bytes` is the largest item, as it is written."""

    def __init__(
        self,
        topics: PublishTopics,
        reader: PublishReader,
        publishing: Publishing,
        rates: Rates,
        *,
        max_items: int,
        item_bytes: int,
    ) -> None:
        self._topics = topics
        self._reader = reader
        self._publishing = publishing
        self._rates = rates
        self._max_items = max_items
        self._item_bytes = item_bytes

    async def of_topic(self, call: Call) -> Reply:
        """POST /api/v1/topics/{topic_id}/publish/batch: topic and right are those of the whole batch."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        info = await self._topics.find(topic_id, call.caller)
        raws, wait = self._cut(call)
        bodies = [self._body(raw) for raw in raws]
        del raws  # a whole copy of the body, which would be kept until the answer
        first = next((body for body in bodies if _may_make_topic(body)), None)
        is_new = info is None
        if info is None:
            if first is None:
                raise unknown_topic(topic_id)
            info = await self._topics.make(call, topic_id)
        checked = [
            body
            if isinstance(body, Refusal)
            else self._reader.publish(info, call.caller, body, is_paid=is_new and body is first)
            for body in bodies
        ]
        return reply(await self._publish(checked, wait), headers=self._rates.headers(call.caller, info))

    async def of_any(self, call: Call) -> Reply:
        """POST /api/v1/publish/batch: every item names its topic."""
        if call.caller.only and not call.caller.publish:
            raise Refusal("forbidden", f"the token of {call.caller.user_id} lets it publish nowhere")
        raws, wait = self._cut(call)
        items = [self._item(raw) for raw in raws]
        del raws
        firsts: dict[str, PublishBody | None] = {}  # the first good body to each topic
        for body, topic_id in items:
            if isinstance(topic_id, str) and firsts.get(topic_id) is None:
                firsts[topic_id] = body if _may_make_topic(body) else None
        topics = await self._topics.find_or_make(call, firsts)
        checked: list[Publish | Refusal] = []
        for body, topic_id in items:
            info = topics.found[topic_id] if isinstance(topic_id, str) else topic_id
            if isinstance(info, Refusal):
                checked.append(info)
            elif isinstance(body, Refusal):
                checked.append(body)
            else:
                is_paid = info.topic_id in topics.made and body is firsts[info.topic_id]
                checked.append(self._reader.publish(info, call.caller, body, is_paid=is_paid))
        return reply(await self._publish(checked, wait), headers=self._rates.headers(call.caller, None))

    def _cut(self, call: Call) -> tuple[list[bytes], Wait]:
        """Returns the items, as they are written, and the query's wait. Raises Refusal."""
        if call.idempotency_key is not None:
            raise Refusal("bad_request", "a batch takes no Idempotency-Key; give each item a client_msg_id")
        try:
            wait = self._reader.begin(call)
        except Refusal as refusal:
            raise self._rates.with_headers(refusal, call.caller, None) from None
        cut = cut_lines if call.media_type == NDJSON else cut_array
        raws = cut(call.body, self._max_items)
        self._reader.hold_copies(call, sum(map(len, raws)))
        return raws, wait

    def _body(self, raw: bytes) -> PublishBody | Refusal:
        try:
            if len(raw) > self._item_bytes:
                raise Refusal("too_large", f"an item of {len(raw)} bytes; at most {self._item_bytes} are taken")
            return self._reader.body(raw)
        except Refusal as refusal:
            return _bare(refusal)

    def _item(self, raw: bytes) -> BatchItem:
        is_large = len(raw) > self._item_bytes
        found = None if is_large else self._reader.item(raw)
        body = self._body(raw) if found is None else found[0]
        if is_large and isinstance(body, Refusal):
            return BatchItem(body, body)  # too large: not even its topic is looked for
        try:
            return BatchItem(body, check_topic_id(read_topic_id(raw) if found is None else found[1]))
        except Refusal as refusal:
            return BatchItem(body, _bare(refusal))

    async def _publish(self, checked: Sequence[Publish | Refusal], wait: Wait) -> dict[str, Any]:
        results = []
        checked = await self._publishing.parents.checked(checked)
        async with self._publishing.counting(checked, wait):
            outcomes = hand_over_all(self._publishing, checked)
            self._publishing.keep_counting(checked, outcomes)
            for item, pending in zip(checked, outcomes, strict=True):
                result, outcome = await self._result(pending, wait)
                self._publishing.count(outcome, item.info if isinstance(item, Publish) else None)
                results.append(result)
        return {"results": results}

    async def _result(self, pending: Pending | Refusal, wait: Wait) -> tuple[dict[str, Any], str]:
        """Returns an item's members in the answer, and its outcome to count."""
        if isinstance(pending, Refusal):
            return members_of(pending), pending.code
        try:
            answer = await self._publishing.answer(pending, wait)
        except Refusal as refusal:
            return members_of(refusal), refusal.code
        return {"status": 200, **answer}, outcome_of(answer)


def _may_make_topic(body: PublishBody | Refusal) -> TypeGuard[PublishBody]:
    """Returns whether a topic is made for this body: it can be read, and replies to no message of the topic."""
    return not isinstance(body, Refusal) and not body.parent


def _bare(refusal: Refusal) -> Refusal:
    """Returns the refusal without its traceback: that would keep the whole item until its turn comes."""
    return Refusal(refusal.code, refusal.detail, retry_after_ms=refusal.retry_after_ms, **refusal.extra)
