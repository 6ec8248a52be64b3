"""Publishing to ephemeral topics: relayed over the link to the owner, never to the log; reads no request."""

import asyncio
from functools import partial
from typing import NamedTuple

from headgate.core.publish.recent_publishes import LogPlace
from headgate.core.wire.envelope import LOW
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer as LinkAnswer
from headgate.core.wire.link import Relay, Relayed
from headgate.core.wire.rights import unknown_topic
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Clock
from ingest.admission import Admission, Answer, Offer, Wait, answer_to
from ingest.catalog import Catalog
from ingest.owners import OUTCOME_S, away

Flight = asyncio.Future[LinkAnswer]


class EphemeralTicket(NamedTuple):
    """An offer that was taken: relayed in `flight`, or (`repeat`) what its entry remembers."""

    offer: Offer
    flight: Flight | None
    repeat: bool


class EphemeralPublishes:
    """Relays offers and answers them; remembers the answers as for durable topics, since nobody else does."""

    def __init__(self, directory: Directory, catalog: Catalog, admission: Admission, clock: Clock) -> None:
        self._directory = directory
        self._catalog = catalog
        self._admission = admission
        self._answers = admission.answers
        self._clock = clock

    def relay(self, offer: Offer) -> EphemeralTicket:
        """Sends an offer to the owner. Raises Refusal, `not_ready` when the owner is away."""
        shard = self._directory.shard_of(offer.info.topic_id)
        entry = self._admission.admit(offer)
        if entry is not None and (entry.place is not None or entry.flight is not None):
            return EphemeralTicket(offer, entry.flight, True)
        if not self._directory.linked(shard):
            raise offer.unknown("an earlier attempt is open, and the owner is away") if entry else away(shard)
        flight = self._directory.ask(
            shard,
            lambda req: Relay(
                req, offer.info.topic_id, offer.info.epoch, offer.item.tail, bool(offer.item.flags & LOW)
            ),
        )
        if offer.given:
            offer.entry = self._answers.attempt(offer.key, offer.fingerprint, flight, self._clock.now())
        flight.add_done_callback(partial(self._landed, offer, shard))
        return EphemeralTicket(offer, flight, False)

    async def settle(self, ticket: EphemeralTicket, wait: Wait) -> Answer:
        """Returns the answer to a ticket. Raises Refusal. No message of an ephemeral topic has a `seq`."""
        offer, flight, repeat = ticket
        known: Answer = {"duplicate": True} if repeat else {}
        if wait.sequenced:
            known = {"duplicate": repeat, "epoch": offer.info.epoch}
        if flight is None:
            assert offer.entry is not None
            count = offer.entry.answer
        else:
            count = await self._relayed(offer, flight)
        return answer_to(offer, count) | known | {"dropped": count == 0}

    async def _relayed(self, offer: Offer, flight: Flight) -> int:
        await asyncio.wait((flight,), timeout=OUTCOME_S)
        if not flight.done():
            raise offer.unknown("the topic's owner has not answered")
        shard = self._directory.shard_of(offer.info.topic_id)
        try:
            answer = flight.result()
        except Refusal as refusal:
            if refusal.code == "topic_not_found":
                self._catalog.drop(offer.info.topic_id)
                raise unknown_topic(offer.info.topic_id) from None
            if refusal.code == "not_ready" and not self._directory.linked(shard):
                raise offer.unknown("the link to the topic's owner was lost before it answered") from None
            raise
        assert isinstance(answer, Relayed)
        return answer.count

    def _landed(self, offer: Offer, shard: int, flight: Flight) -> None:
        error = None if flight.cancelled() else flight.exception()
        entry = offer.entry
        if entry is None:
            return
        if flight.cancelled() or (error is not None and not self._directory.linked(shard)):
            self._answers.unknown(offer.key, entry, self._clock.now())
        elif error is not None:
            self._answers.refused(offer.key, entry)
        else:
            answer = flight.result()
            assert isinstance(answer, Relayed)
            entry.answer = answer.count
            self._answers.acknowledged(offer.key, entry, LogPlace(shard, 0, 0), self._clock.now())
