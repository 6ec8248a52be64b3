"""The batch endpoints: up to 1,000 publishes in one request, each with a result of its own; knows neither log nor link.

Messages of one topic go into as few records as their sizes allow, in the order of the batch.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from headgate.core.publish.batch_body import cut_array, cut_lines
from headgate.core.publish.body import Publish, read_topic_id
from headgate.core.publish.recent_publishes import Key
from headgate.core.wire.envelope import ITEM
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller, unknown_topic
from headgate.runtime.http.bodies import NDJSON
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.problem import members_of
from headgate.runtime.ports import Clock
from ingest.admission import Answer, Offer, Wait
from ingest.catalog import Found
from ingest.durable import DurableTicket
from ingest.ephemeral import EphemeralTicket as VolatileTicket
from ingest.owners import OUTCOME_S
from ingest.publish import Publishing

BUNDLE_ITEMS: Final = 1_000
BUNDLE_BYTES: Final = 512 * 1024  # half of what the log takes as one record

Ticket = DurableTicket | VolatileTicket
Outcome = Offer | Ticket | Answer | Refusal  # of one item, as it goes along


class BatchItem(NamedTuple):
    """What an item offers, or why it is none; and the topic that it names, where items do."""

    publish: Publish | Refusal
    topic_id: str | Refusal


class Batches:
    """The two handlers."""

    def __init__(self, publishing: Publishing, clock: Clock, *, max_items: int, item_bytes: int) -> None:
        self._publishing = publishing
        self._access = publishing.access
        self._topics = publishing.topics
        self._rates = publishing.rates
        self._durable = publishing.durable
        self._volatile = publishing.volatile
        self._clock = clock
        self._max_items = max_items
        self._item_bytes = item_bytes

    async def of_topic(self, call: Call) -> Reply:
        """POST /api/v1/topics/{topic_id}/publish/batch: topic and right are those of the whole batch."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        info = await self._access.to_publish(topic_id, call.caller)
        raws, wait = self._cut(call)
        publishes = [self._read(raw) for raw in raws]
        first = next((publish for publish in publishes if isinstance(publish, Publish)), None)
        is_new = info is None
        if info is None:
            if first is None:
                raise unknown_topic(topic_id)
            info = await self._topics.make(topic_id, call.caller)
        outcomes = [self._offer(info, call.caller, publish, paid=is_new and publish is first) for publish in publishes]
        return await self._publish(outcomes, wait)

    async def of_any(self, call: Call) -> Reply:
        """POST /api/v1/publish/batch: every item names its topic."""
        if call.caller.only and not call.caller.publish:
            raise Refusal("forbidden", f"the token of {call.caller.user_id} lets it publish nowhere")
        raws, wait = self._cut(call)
        items = [self._item(raw) for raw in raws]
        firsts: dict[str, Publish | None] = {}  # the first good item of each topic
        for publish, topic_id in items:
            if isinstance(topic_id, str) and firsts.get(topic_id) is None:
                firsts[topic_id] = publish if isinstance(publish, Publish) else None
        found, made = await self._find(firsts, call.caller)
        outcomes: list[Outcome] = []
        for publish, topic_id in items:
            info = found[topic_id] if isinstance(topic_id, str) else topic_id
            if isinstance(info, Refusal):
                outcomes.append(info)
            else:
                is_paid = info.topic_id in made and publish is firsts[info.topic_id]
                outcomes.append(self._offer(info, call.caller, publish, paid=is_paid))
        return await self._publish(outcomes, wait)

    def _cut(self, call: Call) -> tuple[list[bytes], Wait]:
        if call.idempotency_key is not None:
            raise Refusal("bad_request", "a batch takes no Idempotency-Key; give each item a client_msg_id")
        wait = self._publishing.wait(call.query)
        self._rates.body(call.caller, len(call.body))
        cut = cut_lines if call.media_type == NDJSON else cut_array
        return cut(call.body, self._max_items), wait

    def _read(self, raw: bytes) -> Publish | Refusal:
        try:
            if len(raw) > self._item_bytes:
                raise Refusal("too_large", f"an item of {len(raw)} bytes; at most {self._item_bytes} are taken")
            return self._publishing.read(raw)
        except Refusal as refusal:
            return _bare(refusal)

    def _item(self, raw: bytes) -> BatchItem:
        publish = self._read(raw)
        if len(raw) > self._item_bytes and isinstance(publish, Refusal):
            return BatchItem(publish, publish)  # not even its topic is looked for
        try:
            return BatchItem(publish, check_topic_id(read_topic_id(raw)))
        except Refusal as refusal:
            return BatchItem(publish, _bare(refusal))

    def _offer(self, info: TopicInfo, caller: Caller, publish: Publish | Refusal, *, paid: bool) -> Outcome:
        if isinstance(publish, Refusal):
            return publish
        return self._publishing.offer(info, caller, publish, paid=paid)

    async def _find(self, firsts: dict[str, Publish | None], caller: Caller) -> tuple[dict[str, Found], set[str]]:
        """Returns each topic, or why this caller cannot publish to it, and which were made; makes them one by one."""
        found: dict[str, Found] = {}
        made: set[str] = set()
        deadline = self._clock.now() + OUTCOME_S
        for topic_id, info in (await self._access.all_to_publish(firsts, caller)).items():
            if info is not None:
                found[topic_id] = info
            elif firsts[topic_id] is None:
                found[topic_id] = unknown_topic(topic_id)
            else:
                found[topic_id] = await self._make(topic_id, caller, deadline)
                made.add(topic_id)
        return found, made

    async def _make(self, topic_id: str, caller: Caller, deadline: float) -> Found:
        if self._clock.now() > deadline:
            return Refusal("not_ready", "making the batch's topics took too long; send the rest again")
        try:
            return await self._topics.make(topic_id, caller)
        except Refusal as refusal:
            return refusal

    async def _publish(self, outcomes: list[Outcome], wait: Wait) -> Reply:
        infos = [outcome.info if isinstance(outcome, Offer) else None for outcome in outcomes]
        self._take_all(outcomes)
        results = []
        for outcome, info in zip(outcomes, infos, strict=True):
            result, label = await self._settle(outcome, wait)
            self._publishing.count(label, info)
            results.append(result)
        return reply({"results": results})

    def _take_all(self, outcomes: list[Outcome]) -> None:
        """Replaces each offer by a ticket or a refusal. No await: nothing comes between the items of a batch."""
        bundles: dict[str, list[int]] = {}
        seen: set[Key] = set()
        again: list[int] = []  # a second item of one client_msg_id: answered as a repeat once the first is under way
        for at, outcome in enumerate(outcomes):
            if isinstance(outcome, Offer) and outcome.key in seen:
                again.append(at)
            elif isinstance(outcome, Offer):
                seen.add(outcome.key)
                outcomes[at] = self._take(outcome)
                if outcomes[at] is outcome:
                    bundles.setdefault(outcome.info.topic_id, []).append(at)
        for places in bundles.values():
            self._hand_over(outcomes, places)
        for at in again:
            offer = outcomes[at]
            assert isinstance(offer, Offer)
            outcomes[at] = self._take(offer)
            if outcomes[at] is offer:
                self._hand_over(outcomes, [at])

    def _take(self, offer: Offer) -> Outcome:
        """Returns the ticket of what is relayed, known or under way; the offer itself when it goes into a record."""
        try:
            if offer.ephemeral:
                return self._volatile.relay(offer)
            return self._durable.admit(offer) or offer
        except Refusal as refusal:
            return refusal

    def _hand_over(self, outcomes: list[Outcome], places: list[int]) -> None:
        """Puts the offers at `places`, all to one topic, into records."""
        for chunk in _chunks(outcomes, places):
            offers = [offer for at in chunk if isinstance(offer := outcomes[at], Offer)]
            for at, ticket in zip(chunk, self._durable.hand_over(offers), strict=True):
                outcomes[at] = ticket

    async def _settle(self, outcome: Outcome, wait: Wait) -> tuple[dict[str, Any], str]:
        try:
            if isinstance(outcome, DurableTicket):
                answer = await self._durable.settle(outcome, wait)
            elif isinstance(outcome, VolatileTicket):
                answer = await self._volatile.settle(outcome, wait)
            else:
                assert isinstance(outcome, Refusal)
                raise outcome
        except Refusal as refusal:
            return members_of(refusal), refusal.code
        return {"status": 200, **answer}, "duplicate" if answer.get("duplicate") else "accepted"


def _bare(refusal: Refusal) -> Refusal:
    """Returns a refusal that waits for its turn without the item it was raised for: its traceback holds all of it."""
    return Refusal(refusal.code, refusal.detail, retry_after_ms=refusal.retry_after_ms, **refusal.extra)


def _chunks(outcomes: list[Outcome], places: list[int]) -> Iterator[list[int]]:
    """Yields runs of places whose offers fit into one record; one that is larger by itself has its own."""
    chunk: list[int] = []
    size = 0
    for at in places:
        offer = outcomes[at]
        assert isinstance(offer, Offer)
        length = len(offer.item.tail) + ITEM.size
        if chunk and (len(chunk) == BUNDLE_ITEMS or size + length > BUNDLE_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(at)
        size += length
    if chunk:
        yield chunk
