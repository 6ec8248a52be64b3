"""POST /api/v1/tickets: makes a ticket of the caller's token."""

from typing import Any, Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.ports import Clock, Rng
from headgate.runtime.tickets import MAX_STREAM_S, MAX_TOPICS, SignedTicket, TicketKeys
from ingest.audit import AuditEntry, AuditLog
from ingest.keyed_operations import KeyedOperations
from ingest.rates import Rates

ENTROPY: Final = 16


class TicketEndpoint:
    """The handler. A ticket costs its user a read. The repeat of a request makes another ticket: none is kept."""

    def __init__(
        self, keys: TicketKeys, keyed: KeyedOperations, rates: Rates, clock: Clock, rng: Rng, audit: AuditLog
    ) -> None:
        self._keys = keys
        self._keyed = keyed
        self._rates = rates
        self._clock = clock
        self._rng = rng
        self._audit = audit

    async def create(self, call: Call) -> Reply:
        """Answers with `ticket` and `expires_in`, in whole seconds."""
        with self._audit.operation(call, "ticket.create", target=call.caller.user_id) as entry:
            return self._make(call, entry)

    def _make(self, call: Call, entry: AuditEntry) -> Reply:
        body = call.json_object() if call.body else {}
        kind = body.get("kind", "once")
        if kind == "once":
            entry.change = "kind=once"
            return self._once(call, body)
        if kind != "stream":
            raise Refusal("bad_request", "kind must be once or stream")
        topic_ids = _topic_ids(body)
        entry.change, entry.topic_id = f"kind=stream, {len(topic_ids)} topics", topic_ids[0]
        return self._stream(call, topic_ids, _ttl_s(body))

    def _once(self, call: Call, body: dict[str, Any]) -> Reply:
        for name in ("topic_ids", "ttl_s"):
            if name in body:
                raise Refusal("bad_request", f"{name} is for tickets of kind stream")
        self._admit(call, "once")
        now_ms = self._clock.wall_ms()
        return _answer(self._keys.sign_once(call.identity, now_ms, self._rng.entropy(ENTROPY)), now_ms)

    def _stream(self, call: Call, topic_ids: list[str], ttl_s: float) -> Reply:
        self._admit(call, [topic_ids, ttl_s])
        now_ms, ttl_ms = self._clock.wall_ms(), int(ttl_s * 1_000)
        ticket = self._keys.sign_stream(call.identity, topic_ids, ttl_ms, now_ms, self._rng.entropy(ENTROPY))
        return _answer(ticket, now_ms)

    def _admit(self, call: Call, wanted: object) -> None:
        keyed = self._keyed.read(call, "ticket", wanted)
        self._rates.read(call.caller)
        self._keyed.add(keyed)


def _answer(ticket: SignedTicket, now_ms: int) -> Reply:
    return reply({"ticket": ticket.text, "expires_in": max(0, ticket.expires_ms - now_ms) // 1_000})


def _topic_ids(body: dict[str, Any]) -> list[str]:
    found = body.get("topic_ids")
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_TOPICS:
        raise Refusal("bad_request", f"topic_ids must be a list of 1 to {MAX_TOPICS} topic ids")
    return [check_topic_id(topic_id) for topic_id in found]


def _ttl_s(body: dict[str, Any]) -> float:
    ttl_s = body.get("ttl_s", MAX_STREAM_S)
    if type(ttl_s) not in (int, float) or not 0 < ttl_s <= MAX_STREAM_S:
        raise Refusal("bad_request", f"ttl_s must be a number of seconds above 0, at most {MAX_STREAM_S}")
    return float(ttl_s)
