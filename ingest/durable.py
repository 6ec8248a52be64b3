"""Publishing to durable topics: hand-over to the log, acknowledgement, verdict and answer; reads no request."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from headgate.core.publish.recent_publishes import LogPlace
from headgate.core.wire.envelope import encode_bundle, encode_message
from headgate.core.wire.errors import Refusal
from headgate.core.wire.records import Appended
from headgate.core.wire.rights import unknown_topic
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.ports import Clock, LogError, LogUnavailable, RecordTooLarge
from ingest.admission import Admission, Answer, Offer, Wait, answer_to
from ingest.catalog import Catalog
from ingest.owners import Count, OwnerQueries
from ingest.ports import Appends, IngestMetrics

_LOST: Final = frozenset({Code.NO_TOPIC, Code.STALE_EPOCH})
_NUMBERED: Final = frozenset({Code.ACCEPTED, Code.DUPLICATE})


class Flight:
    """One record on its way to the log, with the offers in it; `future` ends within 6 s."""

    __slots__ = ("future", "offers", "shard", "started", "verdicts")

    def __init__(self, shard: int, offers: Sequence[Offer], started: float) -> None:
        self.shard = shard
        self.offers = offers
        self.started = started
        self.future: asyncio.Future[Appended]
        self.verdicts: tuple[int, list[Verdict]] | None = None  # of an offset


class DurableTicket(NamedTuple):
    """An offer that was taken: item `item` of `flight`, or (`repeat`) an earlier one that its entry remembers."""

    offer: Offer
    flight: Flight | None
    item: int
    repeat: bool
    subscriptions: Count


class DurablePublishes:
    """Hands offers to the log and answers them."""

    def __init__(
        self,
        appender: Appends,
        owners: OwnerQueries,
        catalog: Catalog,
        admission: Admission,
        clock: Clock,
        metrics: IngestMetrics,
    ) -> None:
        self._appender = appender
        self._owners = owners
        self._catalog = catalog
        self._admission = admission
        self._answers = admission.answers
        self._clock = clock
        self._metrics = metrics

    def admit(self, offer: Offer) -> DurableTicket | None:
        """Returns a ticket for what is known or under way, None for what is to be handed over. Raises Refusal."""
        entry = self._admission.admit(offer)
        if entry is None or (entry.place is None and entry.flight is None):
            return None
        return DurableTicket(offer, entry.flight, 0, True, self._count(offer))

    def hand_over(self, offers: Sequence[Offer]) -> list[DurableTicket]:
        """Appends one record of admitted offers to one topic, in order, and returns a ticket for each."""
        first = offers[0]
        now = self._clock.now()
        flight = Flight(self._owners.shard_of(first.info.topic_id), offers, now)
        for offer in offers:
            if offer.given:
                offer.entry = self._answers.attempt(offer.key, offer.fingerprint, flight, now)
        count = self._count(first)  # asked at the end of this loop turn, beside the append
        epoch = first.info.epoch
        if len(offers) == 1:
            value = encode_message(first.item, epoch)
        else:
            value = encode_bundle([offer.item for offer in offers], epoch)
        flight.future = self._appender.append(flight.shard, first.topic_key, value)
        if flight.future.done():  # refused at once: what is remembered must say so before anybody else asks
            self._landed(flight, flight.future)
        else:
            flight.future.add_done_callback(partial(self._landed, flight))
        return [DurableTicket(offer, flight, item, False, count) for item, offer in enumerate(offers)]

    async def settle(self, ticket: DurableTicket, wait: Wait) -> Answer:
        """Returns the answer to a ticket. Raises Refusal."""
        offer, flight, item, repeat, count = ticket
        if flight is not None:
            offset = (await self._appended(ticket, flight)).offset
            place = LogPlace(flight.shard, offset, item)
        entry = offer.entry
        if repeat:
            assert entry is not None and entry.place is not None
            place = entry.place
        answer = answer_to(offer, await count)
        if repeat:
            answer["duplicate"] = True
        if wait.sequenced:
            answer |= await self._sequenced(ticket, place, wait)
        elif repeat and entry is not None and entry.seq:
            answer |= {"seq": entry.seq, "epoch": offer.info.epoch}
        return answer

    async def _appended(self, ticket: DurableTicket, flight: Flight) -> Appended:
        offer = ticket.offer
        try:
            return await asyncio.shield(flight.future)  # others wait for it: it must outlive this request
        except LogUnavailable as error:
            if offer.entry is not None and offer.entry.unresolved:
                raise offer.unknown(f"an earlier attempt may be in the log, and {error}") from None
            raise Refusal("log_unavailable", str(error)) from None
        except RecordTooLarge as error:
            raise Refusal("too_large", str(error)) from None
        except LogError as error:
            raise offer.unknown(str(error)) from None

    async def _sequenced(self, ticket: DurableTicket, place: LogPlace, wait: Wait) -> Answer:
        offer, entry = ticket.offer, ticket.offer.entry
        if ticket.repeat and entry is not None and entry.seq:
            return {"duplicate": True, "seq": entry.seq, "epoch": offer.info.epoch}
        verdict = await self._verdict(ticket, place, wait)
        if entry is not None:
            entry.seq = verdict.seq
        known: Answer = {"duplicate": ticket.repeat or verdict.code == Code.DUPLICATE, "epoch": verdict.epoch}
        return known | {"seq": verdict.seq} if verdict.seq else known

    async def _verdict(self, ticket: DurableTicket, place: LogPlace, wait: Wait) -> Verdict:
        offer, flight = ticket.offer, ticket.flight
        if flight is None or flight.verdicts is None or flight.verdicts[0] != place.offset:
            try:
                verdicts = await self._owners.verdicts(place.shard, place.offset, wait.deadline)
            except Refusal as refusal:
                raise offer.unknown(refusal.detail) from None
            if flight is not None:
                flight.verdicts = place.offset, verdicts
        else:
            verdicts = flight.verdicts[1]
        verdict = verdicts[place.item] if place.item < len(verdicts) else Verdict(Code.UNKNOWN, 0, 0)
        if verdict.code in _NUMBERED:
            return verdict
        if verdict.code in _LOST:
            self._catalog.drop(offer.info.topic_id)
            raise unknown_topic(offer.info.topic_id)
        raise offer.unknown("the topic's owner cannot say what became of the record")

    def _count(self, offer: Offer) -> Count:
        return self._owners.count(self._owners.shard_of(offer.info.topic_id), offer.info.topic_id)

    def _landed(self, flight: Flight, future: "asyncio.Future[Appended]") -> None:
        """Writes the outcome of an append into what is remembered; runs before anybody who waits for it."""
        now = self._clock.now()
        error = None if future.cancelled() else future.exception()
        if not future.cancelled() and error is None:
            self._metrics.appended(1, now - flight.started)
            offset = future.result().offset
            for item, offer in enumerate(flight.offers):
                if offer.entry is not None:
                    self._answers.acknowledged(offer.key, offer.entry, LogPlace(flight.shard, offset, item), now)
            return
        for offer in flight.offers:
            if isinstance(error, LogUnavailable | RecordTooLarge):
                if offer.entry is not None:
                    self._answers.refused(offer.key, offer.entry)
                continue
            # Also one whose id ingest made: the client reads it in the 504 and may repeat it.
            offer.entry = offer.entry or self._answers.attempt(offer.key, offer.fingerprint, flight, now)
            self._answers.unknown(offer.key, offer.entry, now)
