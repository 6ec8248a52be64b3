"""Control operations: appends a record that changes a topic or a message, and waits for its owner's verdict."""

from typing import Any, Final, NamedTuple

from headgate.core.wire.control import Control, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import keyed_id, random_id, topic_key
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.ports import AppendUnknown, LogUnavailable, RecordTooLarge, Shell
from ingest.done_operations import AskedOperations
from ingest.owners import OUTCOME_S, OwnerQueries
from ingest.ports import Appends, IngestMetrics

ENTROPY: Final = 12  # bytes of a random id


class ControlOutcome(NamedTuple):
    """The verdict about a control record in the log, and the record's append time in Unix milliseconds."""

    verdict: Verdict
    ts: int


class Controls:
    """Appends control records and waits for their verdicts."""

    def __init__(self, appender: Appends, owners: OwnerQueries, shell: Shell[IngestMetrics]) -> None:
        self._appender = appender
        self._owners = owners
        self._clock = shell.clock
        self._rng = shell.rng
        self._metrics = shell.metrics
        self._asked = AskedOperations()

    def id_of(self, op: str, topic_id: str, caller: Caller, idempotency_key: str | None) -> bytes:
        """Returns the record's id: the same for the same key. No message has it: a client_msg_id has no NUL."""
        key = topic_key(topic_id)
        if idempotency_key is None:
            return random_id(key, self._rng.entropy(ENTROPY))
        return keyed_id(key, caller.user_id, f"{op}\0{idempotency_key}")

    def require_same(self, record_id: bytes, idempotency_key: str | None, asked: Any) -> bytes:
        """Returns the fingerprint of what is asked for, b"" without a key.

        Raises Refusal `idempotency_conflict` where an operation with this id is known that asked for something else.
        """
        return b"" if idempotency_key is None else self._asked.require_same(record_id, asked)

    async def change(
        self, topic_id: str, control: Control, epoch: int, record_id: bytes, fingerprint: bytes = b""
    ) -> ControlOutcome:
        """Appends the record and returns its outcome. `fingerprint` is remembered unless it is empty.

        Raises Refusal `not_ready` or `log_unavailable` when nothing was handed over, else `outcome_unknown`.
        """
        return await self._append(
            topic_id, encode_control(encode_body(control), epoch, record_id), record_id, fingerprint
        )

    async def decide(
        self, topic_id: str, control: Control, epoch: int, record_id: bytes, fingerprint: bytes = b""
    ) -> ControlOutcome:
        """Does what `change` does. Raises Refusal `outcome_unknown` too where the owner no longer knows the outcome."""
        return _known(topic_id, await self.change(topic_id, control, epoch, record_id, fingerprint))

    async def decide_event(
        self, topic_id: str, event: bytes, record_id: bytes, fingerprint: bytes = b""
    ) -> ControlOutcome:
        """Does what `decide` does with the value of an EVENT record."""
        return _known(topic_id, await self._append(topic_id, event, record_id, fingerprint))

    async def _append(self, topic_id: str, value: bytes, record_id: bytes, fingerprint: bytes) -> ControlOutcome:
        started = self._clock.now()
        shard = self._owners.shard_of(topic_id)
        self._owners.require(shard)
        try:
            appended = await self._appender.append(shard, topic_key(topic_id), value)
        except LogUnavailable as error:
            raise Refusal("log_unavailable", str(error)) from None
        except AppendUnknown as error:
            self._handed_over(record_id, fingerprint)
            self._metrics.unacknowledged(self._clock.now() - started)
            raise Refusal("outcome_unknown", str(error), topic_id=topic_id) from None
        except RecordTooLarge as error:
            raise Refusal("too_large", str(error)) from None
        self._handed_over(record_id, fingerprint)
        self._metrics.appended(1, self._clock.now() - started)
        try:
            (verdict,) = await self._owners.verdicts(shard, appended.offset, started + OUTCOME_S)
        except Refusal as refusal:
            raise Refusal("outcome_unknown", refusal.detail, topic_id=topic_id) from None
        return ControlOutcome(verdict, appended.ts)

    def _handed_over(self, record_id: bytes, fingerprint: bytes) -> None:
        if fingerprint:
            self._asked.add(record_id, fingerprint)


def _known(topic_id: str, outcome: ControlOutcome) -> ControlOutcome:
    if outcome.verdict.code == Code.UNKNOWN:
        detail = "the topic's owner no longer knows what became of the record"
        raise Refusal("outcome_unknown", detail, topic_id=topic_id)
    return outcome
