"""Reads publish requests: the query's `wait`, the bodies, and the checked publish they make for a topic."""

from typing import Final

from headgate.core.publish.body import PublishBody, check_client_msg_id, read_item, read_publish
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from headgate.runtime.http.call import Call
from headgate.runtime.http.memory_budget import REQUEST_BYTES
from headgate.runtime.http.queries import Query, integer
from headgate.runtime.ports import Clock, Rng
from ingest.admission import Publish, Wait
from ingest.owners import OUTCOME_S
from ingest.rates import Rates

DELIVERED_MS: Final = 1_000  # of `timeout_ms` where none is given
MAX_TIMEOUT_MS: Final = 10_000
COPIES: Final = 4  # of a body beside it, until the log has it: payload, frame, record, and the log's client's own
SMALL_BYTES: Final = REQUEST_BYTES // COPIES  # of a body whose copies are in what is counted of each request
_MADE_BYTES: Final = 12  # random bytes of a client_msg_id that ingest makes


class PublishReader:
    """Reads for the single and the batch endpoints; `payload_bytes` is the largest payload with its attachments."""

    def __init__(self, rates: Rates, clock: Clock, rng: Rng, payload_bytes: int) -> None:
        self._rates = rates
        self._clock = clock
        self._rng = rng
        self._payload_bytes = payload_bytes

    def begin(self, call: Call, *, is_charged: bool = False) -> Wait:
        """Reads the query; takes the bytes of the body from the user's rate, unless they are. Raises Refusal."""
        wait = self._wait(call.query)
        if not is_charged:
            self._rates.body(call.caller, len(call.body))
        return wait

    def hold_copies(self, call: Call, size: int) -> None:
        """Counts the copies of so many bytes of a body to the share of the request. Raises Refusal."""
        if size > SMALL_BYTES:
            call.share.grow(COPIES * size)

    def body(self, raw: bytes) -> PublishBody:
        """Reads the body of one publish. Raises Refusal."""
        return read_publish(raw, self._payload_bytes)

    def item(self, raw: bytes) -> tuple[PublishBody, str] | None:
        """Reads an item and its topic in one pass; None where `body` and `read_topic_id` say what is wrong."""
        return read_item(raw, self._payload_bytes)

    def publish(
        self,
        info: TopicInfo,
        caller: Caller,
        body: PublishBody,
        client_msg_id: str | None = None,
        *,
        is_paid: bool = False,
    ) -> Publish:
        """Returns the checked publish. `client_msg_id`: the request's, for a body without one; else one is made."""
        given = body.client_msg_id if client_msg_id is None else client_msg_id
        made = given or self._rng.entropy(_MADE_BYTES).hex()
        return Publish(info, caller, body, made, is_given=given is not None, is_paid=is_paid)

    def _wait(self, query: Query) -> Wait:
        """Reads `wait` and `timeout_ms` (which only `delivered` uses). Raises Refusal `bad_request`."""
        wait = query.get("wait", "accepted")
        timeout_ms = integer(query, "timeout_ms", DELIVERED_MS, 0, MAX_TIMEOUT_MS)
        if wait not in ("accepted", "sequenced", "delivered"):
            raise Refusal("bad_request", "wait must be accepted, sequenced or delivered")
        delivered_s = timeout_ms / 1_000 if wait == "delivered" else None
        return Wait(wait != "accepted", self._clock.now() + OUTCOME_S, delivered_s)


def client_msg_id_of(body: PublishBody, idempotency_key: str | None) -> str | None:
    """Returns the client_msg_id from the body or the header Idempotency-Key. Raises Refusal where they differ."""
    given = body.client_msg_id
    if idempotency_key is not None:
        check_client_msg_id(idempotency_key, "the header Idempotency-Key")
    if given is not None and idempotency_key is not None and given != idempotency_key:
        raise Refusal("bad_request", "client_msg_id and the header Idempotency-Key differ; one is enough")
    return idempotency_key if given is None else given
