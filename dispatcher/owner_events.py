"""The lifecycle events that the owner of a topic sees. Each is built only while somebody watches."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from headgate.core.delivery.dead_letter_record import DeadLetter
from headgate.core.delivery.delivery import MAX_ERROR, Status
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.delivery.lifecycle_events import Event, Outcome
from headgate.core.sequencer.effects import Deliver, Effect, MessageChanged, Unusable
from headgate.core.sequencer.heat import Switch
from headgate.core.sequencer.routes import Routes
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.topic_changes import TopicUpdated
from headgate.core.wire.event_names import EventName
from headgate.core.wire.frames import message_id_in
from headgate.core.wire.ids import id_text
from headgate.core.wire.records import Record
from headgate.core.wire.topic_settings import DEFAULTS

logger = structlog.get_logger("dispatcher")

TOPIC_CHARACTERS: Final = 128  # of a topic id; the key of a foreign record may be longer
_DEFAULT: Final = DEFAULTS["strategy"]


class OwnerEvents:
    """The events of one shard's topics; `routes` have the number of subscriptions, `depth` the length of a queue."""

    def __init__(self, shard: int, events: DeliveryEvents, routes: Routes[Any], depth: Callable[[str], int]) -> None:
        self._shard = shard
        self._events = events
        self._routes = routes
        self._depth = depth

    def enqueued(self, effects: Sequence[Effect]) -> None:
        """A record was applied; its messages have their numbers. The caller has seen that somebody watches."""
        for effect in effects:
            if isinstance(effect, Deliver):
                self._enqueued(effect)
            elif isinstance(effect, MessageChanged):
                self._enqueued(effect.event)

    def relayed(self, row: Row, tail: bytes, ts: int, outcome: Outcome | None = None, depth: int | None = None) -> None:
        """A message of an ephemeral topic was sent on; `tail` is that of its frame.

        With an `outcome` it was refused: shed, or with a `depth` because the topic's queue is that long.
        """
        self._events.count(EventName.MESSAGE_ENQUEUED if outcome is None else EventName.BACKPRESSURE, 1)
        if not self._events.on:
            return
        message_id = message_id_in(tail)
        if outcome is None:
            self._passed(row.topic_id, row.epoch, None, message_id, ts)
            return
        name, topic_id = EventName.BACKPRESSURE, row.topic_id
        event = Event(
            *(name, ts / 1_000, topic_id, message_id, None, 0, None),
            queue_length=depth,
            outcome=outcome,
            epoch=row.epoch,
        )
        self._events.emit(self._shard, event)

    def subscribed(self, row: Row, user_id: str, wall_ms: int) -> None:
        """A subscription was granted."""
        self._events.count(EventName.SUBSCRIBER_ADDED, 1)
        if self._events.on:
            event = Event(
                EventName.SUBSCRIBER_ADDED, wall_ms / 1_000, row.topic_id, None, user_id, 0, None, epoch=row.epoch
            )
            self._events.emit(self._shard, event)

    def unusable(self, record: Record, effect: Unusable) -> None:
        """A record of a foreign producer became a dead letter; its topic is what its key says, known or not."""
        self._events.count(EventName.DEAD_LETTER, 1)
        if self._events.on:
            topic_id = (record.key or b"").decode("utf-8", "replace")[:TOPIC_CHARACTERS]
            name, status, why = EventName.DEAD_LETTER, Status.DEAD_LETTER, effect.detail[:MAX_ERROR]
            at = record.ts / 1_000
            event = Event(name, at, topic_id, None, None, 0, status, error=why, reason=effect.reason)
            self._events.emit(self._shard, event)

    def given_up(self, letter: DeadLetter) -> None:
        """A delivery became a dead letter."""
        self._events.count(EventName.DEAD_LETTER, 1)
        if self._events.on:
            event = Event(
                EventName.DEAD_LETTER,
                letter.at,
                letter.topic,
                str(letter.message_id) or None,
                letter.group or letter.user_id,
                letter.attempts,
                Status.DEAD_LETTER,
                error=letter.last_error,
                reason=letter.reason,
                epoch=letter.epoch,
                seq=letter.seq,
                device_id=letter.device_id,
                group=letter.group,
            )
            self._events.emit(self._shard, event)

    def queue_full(self, topic_id: str, epoch: int, count: int, depth: int, wall_ms: int) -> None:
        """An ingest refused so many messages of a durable topic, whose queue was `depth` long."""
        self._events.count(EventName.BACKPRESSURE, count)
        if self._events.on:
            name, at, outcome = EventName.BACKPRESSURE, wall_ms / 1_000, Outcome.REJECTED
            event = Event(
                *(name, at, topic_id, None, None, 0, None), queue_length=depth, outcome=outcome, size=count, epoch=epoch
            )
            self._events.emit(self._shard, event)

    def updated(self, record: Record, effect: TopicUpdated) -> None:
        """A topic was changed: its strategy may be another one now."""
        old, new = strategy_of(effect.before), strategy_of(effect.row.settings)
        if old == new:
            return
        self._events.count(EventName.STRATEGY_SWAPPED, 1)
        if self._events.on:
            name, row, at = EventName.STRATEGY_SWAPPED, effect.row, record.ts / 1_000
            event = Event(name, at, row.topic_id, None, None, 0, None, old=old, new=new, epoch=row.epoch)
            self._events.emit(self._shard, event)

    def switched(self, row: Row, switch: Switch, wall_ms: int) -> None:
        """A topic went to the inbox or came back."""
        self._events.count(EventName.MODE_SWITCHED, 1)
        old, new, count = switch.old.mode, switch.new.mode, switch.count
        logger.info("topic switched", shard=self._shard, topic=row.topic_id, mode=new, count=count)
        if self._events.on:
            name, at = EventName.MODE_SWITCHED, wall_ms / 1_000
            event = Event(
                name, at, row.topic_id, None, None, 0, None, subscribers=count, old=old, new=new, epoch=row.epoch
            )
            self._events.emit(self._shard, event)

    def _enqueued(self, message: Deliver) -> None:
        self._passed(message.topic_id, message.epoch, message.seq, id_text(message.id), message.ts)

    def _passed(self, topic_id: str, epoch: int, seq: int | None, message_id: str | None, ts: int) -> None:
        """Nobody there: the message is delivered to 0 subscribers, and nobody else will say so."""
        count, at = self._routes.count(topic_id), ts / 1_000
        more: dict[str, Any] = {"subscribers": count, "epoch": epoch, "seq": seq}
        name, status, depth = EventName.MESSAGE_ENQUEUED, Status.QUEUED, self._depth(topic_id)
        self._events.emit(
            self._shard, Event(name, at, topic_id, message_id, None, 0, status, queue_length=depth, **more)
        )
        if not count:
            name, status = EventName.DELIVERED, Status.DELIVERED
            self._events.emit(self._shard, Event(name, at, topic_id, message_id, None, 0, status, **more))


def strategy_of(settings: dict[str, Any]) -> str:
    """Returns a topic's strategy as one text: its setting as JSON, of a strategy without options its kind."""
    setting = settings.get("strategy") or _DEFAULT
    return str(setting["kind"]) if len(setting) == 1 else msgspec.json.encode(setting).decode()
