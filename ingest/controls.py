"""Control operations: appends a record that changes a topic or a message, and waits for its owner's verdict."""

from typing import Final, NamedTuple

from headgate.core.wire.control import Control, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import keyed_id, random_id, topic_key
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.ports import AppendUnknown, LogUnavailable, RecordTooLarge, Shell
from ingest.keyed_operations import KeyedOperation, KeyedOperations
from ingest.owners import OUTCOME_S, OwnerQueries
from ingest.ports import Appends, IngestMetrics

ENTROPY: Final = 12  # bytes of a random id


class ControlOutcome(NamedTuple):
    """The verdict about a control record in the log, and the record's append time in Unix milliseconds."""

    verdict: Verdict
    ts: int


class Controls:
    """Appends control records and waits for their verdicts. `keyed` remembers those with an Idempotency-Key."""

    def __init__(self, appender: Appends, owners: OwnerQueries, shell: Shell[IngestMetrics]) -> None:
        self._appender = appender
        self._owners = owners
        self._clock = shell.clock
        self._rng = shell.rng
        self._metrics = shell.metrics
        self.keyed = KeyedOperations(shell.clock)

    def id_of(self, op: str, topic_id: str, caller: Caller, idempotency_key: str | None) -> bytes:
        """Returns the record's id: the same for the same key. No message has it: a client_msg_id has no NUL."""
        key = topic_key(topic_id)
        if idempotency_key is None:
            return random_id(key, self._rng.entropy(ENTROPY))
        return keyed_id(key, caller.user_id, f"{op}\0{idempotency_key}")

    async def change(
        self, topic_id: str, control: Control, epoch: int, record_id: bytes, keyed: KeyedOperation | None = None
    ) -> ControlOutcome:
        """Appends the record and returns its outcome; `keyed` is remembered once it is handed over.

        Raises Refusal `not_ready` or `log_unavailable` when nothing was handed over, else `outcome_unknown`.
        """
        return await self._append(topic_id, encode_control(encode_body(control), epoch, record_id), keyed)

    async def decide(
        self, topic_id: str, control: Control, epoch: int, record_id: bytes, keyed: KeyedOperation | None = None
    ) -> ControlOutcome:
        """Does what `change` does. Raises Refusal `outcome_unknown` too where the owner no longer knows the outcome."""
        return _known(topic_id, await self.change(topic_id, control, epoch, record_id, keyed))

    async def decide_event(self, topic_id: str, event: bytes, keyed: KeyedOperation | None = None) -> ControlOutcome:
        """Does what `decide` does with the value of an EVENT record."""
        return _known(topic_id, await self._append(topic_id, event, keyed))

    async def _append(self, topic_id: str, value: bytes, keyed: KeyedOperation | None) -> ControlOutcome:
        started = self._clock.now()
        shard = self._owners.shard_of(topic_id)
        self._owners.require(shard)
        try:
            appended = await self._appender.append(shard, topic_key(topic_id), value)
        except LogUnavailable as error:
            raise Refusal("log_unavailable", str(error)) from None
        except AppendUnknown as error:
            self.keyed.add(keyed)
            self._metrics.unacknowledged(self._clock.now() - started)
            raise Refusal("outcome_unknown", str(error), topic_id=topic_id) from None
        except RecordTooLarge as error:
            raise Refusal("too_large", str(error)) from None
        self.keyed.add(keyed)
        self._metrics.appended(1, self._clock.now() - started)
        try:
            (verdict,) = await self._owners.verdicts(shard, appended.offset, started + OUTCOME_S)
        except Refusal as refusal:
            raise Refusal("outcome_unknown", refusal.detail, topic_id=topic_id) from None
        return ControlOutcome(verdict, appended.ts)


def _known(topic_id: str, outcome: ControlOutcome) -> ControlOutcome:
    if outcome.verdict.code == Code.UNKNOWN:
        detail = "the topic's owner no longer knows what became of the record"
        raise Refusal("outcome_unknown", detail, topic_id=topic_id)
    return outcome
