"""The batch endpoints: up to 1,000 publishes in one request, each with a result of its own; knows neither log nor link.

Messages of one topic go into as few records as their sizes allow, in the order of the batch.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from headgate.core import payload, rights
from headgate.core.answers import Key
from headgate.core.envelope import ITEM
from headgate.core.errors import Refusal
from headgate.core.ids import check_topic_id
from headgate.core.link import TopicInfo
from headgate.core.rights import Caller, unknown_topic
from headgate.core.tail import read_topic_id
from headgate.runtime.http.problem import members_of
from headgate.runtime.ports import Clock
from ingest.catalog import Catalog, Found
from ingest.durable import Durable
from ingest.durable import Ticket as DurableTicket
from ingest.exchange import NDJSON, Call, Reply, reply
from ingest.offers import Answer, Offer, Wait
from ingest.owners import OUTCOME_S
from ingest.publish import Publishing
from ingest.topics import TopicHandlers
from ingest.volatile import Ticket as VolatileTicket
from ingest.volatile import Volatile

BUNDLE_ITEMS: Final = 1_000
BUNDLE_BYTES: Final = 512 * 1024  # half of what the log takes as one record

Ticket = DurableTicket | VolatileTicket
Outcome = Offer | Ticket | Answer | Refusal  # of one item, as it goes along
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class Batches:
    """The two handlers."""

    def __init__(
        self,
        *,
        publishing: Publishing,
        topics: TopicHandlers,
        catalog: Catalog,
        durable: Durable,
        volatile: Volatile,
        clock: Clock,
        max_items: int,
    ) -> None:
        self._publishing = publishing
        self._topics = topics
        self._catalog = catalog
        self._durable = durable
        self._volatile = volatile
        self._clock = clock
        self._max_items = max_items

    async def of_topic(self, call: Call) -> Reply:
        """POST /api/v1/topics/{topic_id}/publish/batch: topic and right are those of the whole batch."""
        topic_id = check_topic_id(call.segments[0])
        info = await self._topics.resolve(topic_id, call.caller, lambda: self._check(call))
        rights.require(rights.may_publish(call.caller, info), call.caller, info, "publish to")
        raws, wait = self._read(call)
        return await self._publish([self._offer(info, call.caller, raw) for raw in raws], wait)

    async def of_any(self, call: Call) -> Reply:
        """POST /api/v1/publish/batch: every item names its topic."""
        raws, wait = self._read(call)
        named = [_topic_of(raw) for raw in raws]
        by_topic: dict[str, list[bytes]] = {}
        for raw, name in zip(raws, named, strict=True):
            if isinstance(name, str):
                by_topic.setdefault(name, []).append(raw)
        found = await self._find(by_topic, call.caller)
        outcomes: list[Outcome] = []
        for raw, name in zip(raws, named, strict=True):
            info = found[name] if isinstance(name, str) else name
            outcomes.append(info if isinstance(info, Refusal) else self._offer(info, call.caller, raw))
        return await self._publish(outcomes, wait)

    def _read(self, call: Call) -> tuple[list[bytes], Wait]:
        if call.idempotency_key is not None:
            raise Refusal("bad_request", "a batch takes no Idempotency-Key; give each item a client_msg_id")
        wait = self._publishing.wait(call.query)
        raws = split(call.body, call.media_type)
        if len(raws) > self._max_items:
            raise Refusal("too_large", f"a batch of {len(raws)} items; at most {self._max_items} are taken")
        return raws, wait

    def _offer(self, info: TopicInfo, caller: Caller, raw: bytes) -> Outcome:
        try:
            return self._publishing.offer(info, caller, raw)
        except Refusal as refusal:
            return refusal

    def _check(self, call: Call) -> None:
        raws, _ = self._read(call)
        if not self._any_good(raws):
            raise unknown_topic(call.segments[0])

    def _any_good(self, raws: Iterable[bytes]) -> bool:
        for raw in raws:
            with suppress(Refusal):
                self._publishing.read(raw)
                return True
        return False

    async def _find(self, by_topic: dict[str, list[bytes]], caller: Caller) -> dict[str, Found]:
        """Returns each topic, or why this caller cannot publish to it; asks for all at once, creates one by one."""
        found = await self._catalog.get_many(by_topic)
        deadline = self._clock.now() + OUTCOME_S
        for topic_id, info in found.items():
            is_missing = isinstance(info, Refusal) and info.code == "topic_not_found"
            if is_missing and self._topics.may_make(topic_id, caller) and self._any_good(by_topic[topic_id]):
                found[topic_id] = await self._make(topic_id, caller, deadline)
        return {topic_id: _permitted(info, caller) for topic_id, info in found.items()}

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


def split(body: bytes, media_type: str) -> list[bytes]:
    """Returns the items of a batch as they were written. Raises Refusal `bad_request` for what is no batch."""
    if media_type == NDJSON:
        return [line for line in (line.strip(b" \t\r") for line in body.split(b"\n")) if line]
    try:
        payload.check_utf8(body)
        return [bytes(raw) for raw in _raws.decode(body)]
    except msgspec.ValidationError:
        raise Refusal("bad_request", "a batch is a JSON array of objects") from None
    except (msgspec.DecodeError, RecursionError):
        return _split_lone(body)
    except ValueError:
        raise Refusal("bad_request", "the body is not UTF-8") from None


def _split_lone(body: bytes) -> list[bytes]:
    """Takes apart what msgspec refuses although it may only hold a lone surrogate escape."""
    try:
        text = payload.compact(body)
    except ValueError as error:
        detail = "nested deeper than 64" if str(error) == "too_deep" else "not JSON"
        raise Refusal("bad_request", f"the body is {detail}") from None
    if not text.startswith(b"["):
        raise Refusal("bad_request", "a batch is a JSON array of objects")
    return payload.parts(text)


def _topic_of(raw: bytes) -> str | Refusal:
    try:
        return check_topic_id(read_topic_id(raw))
    except Refusal as refusal:
        return refusal


def _permitted(info: Found, caller: Caller) -> Found:
    if isinstance(info, Refusal):
        return info
    try:
        rights.require(rights.may_publish(caller, info), caller, info, "publish to")
    except Refusal as refusal:
        return refusal
    return info


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
