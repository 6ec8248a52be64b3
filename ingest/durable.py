"""Publishes to durable topics: handed to the log, acknowledged by it, numbered by the topic's owner, answered."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from headgate.core.publish.recent_publishes import LogPlace
from headgate.core.wire.envelope import UNMETERED, encode_bundle, encode_message
from headgate.core.wire.errors import Refusal
from headgate.core.wire.records import Appended
from headgate.core.wire.rights import unknown_topic
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.ports import LogError, LogUnavailable, RecordTooLarge, Shell
from ingest.admission import Admission, Answer, Publish, Wait, answer_to, counted
from ingest.catalog import Catalog
from ingest.delivery_questions import DeliveryQuestions
from ingest.owners import OwnerQueries, SubscriptionCounts
from ingest.ports import Appends, IngestMetrics

_LOST: Final = frozenset({Code.NO_TOPIC, Code.STALE_EPOCH})
_NUMBERED: Final = frozenset({Code.ACCEPTED, Code.DUPLICATE})


class Append:
    """One record that was handed to the log, with the publishes in it, in order.

    `acknowledgement` ends within 6 s. `verdicts` are the owner's, kept so that the publishes of one record ask once.
    """

    __slots__ = ("acknowledgement", "publishes", "shard", "started", "verdicts")

    def __init__(
        self, shard: int, publishes: Sequence[Publish], started: float, acknowledgement: "asyncio.Future[Appended]"
    ) -> None:
        self.shard = shard
        self.publishes = publishes
        self.started = started
        self.acknowledgement = acknowledgement
        self.verdicts: tuple[int, list[Verdict]] | None = None  # the offset they are about, and they


class PendingAppend(NamedTuple):
    """A publish whose answer is due: number `item` of `append`, or (`is_repeat`) the earlier one in its entry.

    `append` is None where the entry knows the place already.
    """

    publish: Publish
    append: Append | None
    item: int
    is_repeat: bool
    counts: SubscriptionCounts


class DurablePublishes:
    """Hands publishes to the log and answers them."""

    def __init__(
        self,
        appender: Appends,
        owners: OwnerQueries,
        catalog: Catalog,
        admission: Admission,
        deliveries: DeliveryQuestions,
        shell: Shell[IngestMetrics],
    ) -> None:
        self._appender = appender
        self._owners = owners
        self._catalog = catalog
        self._admission = admission
        self._deliveries = deliveries
        self._recent = admission.recent
        self._queues = admission.queues
        self._clock = shell.clock
        self._metrics = shell.metrics

    def admit(self, publish: Publish) -> PendingAppend | None:
        """Returns the pending answer of a repeat, None for a publish to hand over. Raises Refusal."""
        entry = self._admission.admit(publish)
        if entry is None or not entry.is_answered:
            self._queues.enter(publish.info)
            return None
        topic_id = publish.info.topic_id
        counts = self._owners.subscriptions(self._owners.shard_of(topic_id), topic_id)
        return PendingAppend(publish, entry.attempt, 0, True, counts)

    def hand_over(self, publishes: Sequence[Publish]) -> list[PendingAppend]:
        """Appends one record of admitted publishes to one topic, in order; returns the pending answer of each."""
        now = self._clock.now()
        info = publishes[0].info
        shard = self._owners.shard_of(info.topic_id)
        counts = self._owners.subscriptions(shard, info.topic_id)  # asked behind this loop turn's appends
        if len(publishes) == 1:
            value = encode_message(publishes[0].item, info.epoch)
        else:
            flags = publishes[0].item.flags & UNMETERED  # the publishes of one record have one caller
            value = encode_bundle([publish.item for publish in publishes], info.epoch, flags)
        append = Append(shard, publishes, now, self._appender.append(shard, publishes[0].topic_key, value))
        for publish in publishes:
            if publish.is_given:
                publish.entry = self._recent.attempt(publish.key, publish.fingerprint, append, now)
        if append.acknowledgement.done():  # refused at once: the memory must know before anybody else asks it
            self._ended(append, append.acknowledgement)
        else:
            append.acknowledgement.add_done_callback(partial(self._ended, append))
        return [PendingAppend(publish, append, item, False, counts) for item, publish in enumerate(publishes)]

    async def answer(self, pending: PendingAppend, wait: Wait) -> Answer:
        """Returns the answer once the log has it; by `wait` with the owner's verdict and count. Raises Refusal."""
        publish, entry = pending.publish, pending.publish.entry
        if pending.append is not None:
            offset, publish.ts = await self._acknowledged(publish, pending.append)
        else:
            offset, publish.ts = -1, 0 if entry is None or entry.place is None else entry.place.ts
        if not pending.counts.is_told:
            await pending.counts.told()
        answer = answer_to(publish, pending.counts.of(publish.info.topic_id))
        if pending.is_repeat:
            answer["duplicate"] = True
        if wait.sequenced:
            answer |= await self._sequenced(pending, offset, wait)
            if wait.delivered_s is not None and not answer["duplicate"]:  # a repeat is not delivered again
                answer = counted(answer, await self._deliveries.count(publish, wait.delivered_s))
        elif pending.is_repeat and entry is not None and entry.seq:
            answer |= {"seq": entry.seq, "epoch": publish.info.epoch}
        return answer

    async def _acknowledged(self, publish: Publish, append: Append) -> Appended:
        """Returns the record's offset and append time. Raises Refusal."""
        future = append.acknowledgement
        try:
            # Other requests wait for the same future: it must outlive this one.
            return future.result() if future.done() else await asyncio.shield(future)
        except LogUnavailable as error:
            if publish.entry is not None and publish.entry.is_unresolved:
                raise publish.unknown(f"an earlier attempt may be in the log, and {error}") from None
            raise Refusal("log_unavailable", str(error)) from None
        except RecordTooLarge as error:
            raise Refusal("too_large", str(error)) from None
        except LogError as error:
            raise publish.unknown(str(error)) from None

    async def _sequenced(self, pending: PendingAppend, offset: int, wait: Wait) -> Answer:
        """Returns the members that the verdict gives; `offset` is of the pending append. Raises Refusal."""
        entry = pending.publish.entry
        if pending.is_repeat and entry is not None and entry.seq:
            return {"duplicate": True, "seq": entry.seq, "epoch": pending.publish.info.epoch}
        verdict = await self._verdict(pending, _place_of(pending, offset), wait)
        if entry is not None:
            entry.seq = verdict.seq
        known: Answer = {"duplicate": pending.is_repeat or verdict.code == Code.DUPLICATE, "epoch": verdict.epoch}
        return known | {"seq": verdict.seq} if verdict.seq else known

    async def _verdict(self, pending: PendingAppend, place: LogPlace, wait: Wait) -> Verdict:
        """Returns the verdict that gives the message its seq. Raises Refusal."""
        publish = pending.publish
        verdicts = await self._verdicts(pending, place, wait)
        code = verdicts[place.item].code if place.item < len(verdicts) else Code.UNKNOWN
        if code in _NUMBERED:
            return verdicts[place.item]
        if code in _LOST:
            self._catalog.drop(publish.info.topic_id)
            raise unknown_topic(publish.info.topic_id)
        raise publish.unknown("the topic's owner cannot say what became of the record")

    async def _verdicts(self, pending: PendingAppend, place: LogPlace, wait: Wait) -> list[Verdict]:
        append = pending.append
        if append is not None and append.verdicts is not None and append.verdicts[0] == place.offset:
            return append.verdicts[1]
        try:
            verdicts = await self._owners.verdicts(place.shard, place.offset, wait.deadline)
        except Refusal as refusal:
            raise pending.publish.unknown(refusal.detail) from None
        if append is not None:
            append.verdicts = place.offset, verdicts
        return verdicts

    def _ended(self, append: Append, acknowledgement: "asyncio.Future[Appended]") -> None:
        """Writes the outcome of an append into the memory; runs before anybody who waits for it."""
        now, info, count = self._clock.now(), append.publishes[0].info, len(append.publishes)
        cancelled = acknowledgement.cancelled()
        error = None if cancelled else acknowledgement.exception()
        if error is None and not cancelled:
            self._metrics.appended(1, now - append.started)
            offset, ts = acknowledgement.result()
            self._queues.appended(append.shard, offset, info, count)
            for item, publish in enumerate(append.publishes):
                if publish.entry is not None:
                    place = LogPlace(append.shard, offset, item, ts)
                    self._recent.acknowledged(publish.key, publish.entry, place, now)
        elif isinstance(error, LogUnavailable | RecordTooLarge):
            self._queues.lost(info, count)
            for publish in append.publishes:
                if publish.entry is not None:
                    self._recent.refused(publish.key, publish.entry)
        else:
            self._queues.lost(info, count)
            self._unresolved(append, now)

    def _unresolved(self, append: Append, now: float) -> None:
        """Notes publishes of which nobody knows whether they are in the log."""
        self._metrics.unacknowledged(now - append.started)
        for publish in append.publishes:
            # Also one whose id ingest made: the client reads it in the 504 and may repeat it.
            entry = publish.entry or self._recent.attempt(publish.key, publish.fingerprint, append, now)
            publish.entry = entry
            self._recent.unknown(publish.key, entry, now)


def _place_of(pending: PendingAppend, offset: int) -> LogPlace:
    if pending.is_repeat:
        assert pending.publish.entry is not None and pending.publish.entry.place is not None
        return pending.publish.entry.place
    assert pending.append is not None
    return LogPlace(pending.append.shard, offset, pending.item)
