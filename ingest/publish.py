"""POST /api/v1/topics/{topic_id}/publish: one message; knows neither the log nor the link."""

from typing import Final

from headgate.core.publish.body import Publish, check_client_msg_id, read_publish
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.queries import Query, integer
from headgate.runtime.ports import Clock, Rng
from ingest.access import Access
from ingest.admission import Answer, Offer, Wait
from ingest.durable import DurablePublishes
from ingest.ephemeral import EphemeralPublishes
from ingest.owners import OUTCOME_S
from ingest.ports import IngestMetrics
from ingest.rates import Rates
from ingest.topics import TopicHandlers

MAX_TIMEOUT_MS: Final = 10_000
_GENERATED_BYTES: Final = 12


class Publishing:
    """What single and batch publishes share: reading what was offered, and the handler of the single one."""

    def __init__(
        self,
        *,
        access: Access,
        topics: TopicHandlers,
        rates: Rates,
        durable: DurablePublishes,
        volatile: EphemeralPublishes,
        clock: Clock,
        rng: Rng,
        metrics: IngestMetrics,
        payload_bytes: int,
    ) -> None:
        self.access = access
        self.topics = topics
        self.rates = rates
        self.durable = durable
        self.volatile = volatile
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._payload_bytes = payload_bytes

    async def one(self, call: Call) -> Reply:
        """The handler."""
        info: TopicInfo | None = None
        try:
            topic_id = check_topic_id(call.path_parameters["topic_id"])
            info = await self.access.to_publish(topic_id, call.caller)
            wait = self.wait(call.query)
            self.rates.body(call.caller, len(call.body))
            publish = self.read(call.body)
            given = _client_msg_id(publish, call.idempotency_key)
            is_new = info is None
            if info is None:
                info = await self.topics.make(topic_id, call.caller)
            answer = await self._publish(self.offer(info, call.caller, publish, given, paid=is_new), wait)
        except Refusal as refusal:
            self.count(refusal.code, info)
            raise
        self.count("duplicate" if answer.get("duplicate") else "accepted", info)
        return reply(answer)

    def wait(self, query: Query) -> Wait:
        """Reads `wait` and `timeout_ms` (which only `delivered` uses). Raises Refusal `bad_request`."""
        wait = query.get("wait", "accepted")
        integer(query, "timeout_ms", 0, 0, MAX_TIMEOUT_MS)
        if wait == "delivered":
            raise Refusal("bad_request", "wait=delivered is not built yet; use accepted or sequenced")
        if wait not in ("accepted", "sequenced"):
            raise Refusal("bad_request", "wait must be accepted or sequenced")
        return Wait(wait == "sequenced", self._clock.now() + OUTCOME_S)

    def read(self, raw: bytes) -> Publish:
        """Reads the body of a publish. Raises Refusal."""
        return read_publish(raw, self._payload_bytes)

    def offer(
        self, info: TopicInfo, caller: Caller, publish: Publish, given: str | None = None, *, paid: bool = False
    ) -> Offer:
        """Returns what a publish offers to a topic; `given` is its client_msg_id, from the body or the header."""
        given = publish.client_msg_id if given is None else given
        client_msg_id = given or self._rng.entropy(_GENERATED_BYTES).hex()
        return Offer(info, caller, publish, client_msg_id, given=given is not None, paid=paid)

    def count(self, outcome: str, info: TopicInfo | None, count: int = 1) -> None:
        """Counts messages that were offered."""
        profile = "durable" if info is None else info.settings.get("profile", "durable")
        self._metrics.publish(outcome, profile, count)

    async def _publish(self, offer: Offer, wait: Wait) -> Answer:
        if offer.ephemeral:
            return await self.volatile.settle(self.volatile.relay(offer), wait)
        ticket = self.durable.admit(offer) or self.durable.hand_over((offer,))[0]
        return await self.durable.settle(ticket, wait)


def _client_msg_id(publish: Publish, idempotency_key: str | None) -> str | None:
    given = publish.client_msg_id
    if idempotency_key is not None:
        check_client_msg_id(idempotency_key, "the header Idempotency-Key")
    if given is not None and idempotency_key is not None and given != idempotency_key:
        raise Refusal("bad_request", "client_msg_id and the header Idempotency-Key differ; one is enough")
    return idempotency_key if given is None else given
