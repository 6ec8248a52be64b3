"""A checked publish to one topic, and its admission: repeats are found first, then a token of each rate is taken."""

from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from headgate.core.publish.body import PublishBody, frame_tail
from headgate.core.publish.recent_publishes import Key, RecentPublish, RecentPublishes
from headgate.core.wire.envelope import KEYED, LOW, REPLY, UNMETERED, Item
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text, keyed_id, topic_key
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from headgate.runtime.ports import Clock
from ingest.queues import Queues
from ingest.rates import Rates

Answer = dict[str, Any]  # the members of one publish's answer

_FINGERPRINT_BYTES: Final = 16


class Wait(NamedTuple):
    """Whether the publisher waits for the `seq`, and the clock's second in which the outcome is due.

    `delivered_s`: for how many seconds he waits until sockets took the message; None where he does not.
    """

    sequenced: bool
    deadline: float
    delivered_s: float | None = None


class Publish:
    """A checked publish to a topic that the caller may publish to.

    `client_msg_id` is the client's (`is_given`), or one that ingest made: with that too a publish that ended in 504 can
    be repeated, but it needs no long memory. `is_paid`: the user's rate was taken when the topic was made for it.
    """

    def __init__(
        self,
        info: TopicInfo,
        caller: Caller,
        body: PublishBody,
        client_msg_id: str,
        *,
        is_given: bool,
        is_paid: bool = False,
    ) -> None:
        self.info = info
        self.caller = caller
        self.is_ephemeral = info.is_ephemeral
        self.client_msg_id = client_msg_id
        self.is_given = is_given
        self.is_paid = is_paid
        self.topic_key = topic_key(info.topic_id)
        self.id = keyed_id(self.topic_key, caller.user_id, client_msg_id)
        self.key: Key = (info.epoch, self.id)
        self.parent = body.parent
        self.ts = 0  # Unix milliseconds of its record, once it is known
        flags = (KEYED if is_given else 0) | (LOW if body.low else 0) | (UNMETERED if caller.service else 0)
        flags |= REPLY if body.parent else 0
        self.item = Item(self.id, flags, frame_tail(self.id, caller.user_id, body))
        self.entry: RecentPublish | None = None  # set once it is remembered
        self.is_counted = False

    def count(self, is_counted: bool) -> None:
        """Notes whether its owner counts its deliveries."""
        self.is_counted = is_counted

    @cached_property
    def fingerprint(self) -> bytes:
        """The same for the same body. The tail holds the id too, which is equal wherever two are compared."""
        return blake2b(self.item.tail + bytes([self.item.flags & LOW]), digest_size=_FINGERPRINT_BYTES).digest()

    def unknown(self, detail: str) -> Refusal:
        """Returns the 504 that names the message, so that it can be repeated."""
        return Refusal(
            "outcome_unknown",
            detail,
            message_id=id_text(self.id),
            client_msg_id=self.client_msg_id,
            topic_id=self.info.topic_id,
        )


def answer_to(publish: Publish, subscriptions: int | None) -> Answer:
    """Returns the members that every answer has; `subscriptions` is None when the owner could not say in time."""
    return {
        "message_id": id_text(publish.id),
        "client_msg_id": publish.client_msg_id,
        "topic_id": publish.info.topic_id,
        "delivered_to": subscriptions or 0,
        "delivered_to_basis": "unknown" if subscriptions is None else "registry",
        "dropped": False,
    }


def counted(answer: Answer, count: int | None) -> Answer:
    """Returns the answer with the number of sockets that took the message; None: nobody could say."""
    basis = "unknown" if count is None else "delivered"
    return answer | {"delivered_to": count or 0, "delivered_to_basis": basis}


class Admission:
    """Decides whether a publish may be handed over; `recent` is the memory that repeats are answered from."""

    def __init__(self, clock: Clock, rates: Rates, queues: Queues) -> None:
        self.recent = RecentPublishes()
        self.queues = queues
        self._clock = clock
        self._rates = rates

    def knows(self, publish: Publish) -> bool:
        """Returns whether this is a repeat of a publish that is remembered. Raises Refusal `idempotency_conflict`."""
        return publish.is_given and self._found(publish) is not None

    def admit(self, publish: Publish) -> RecentPublish | None:
        """Returns the entry of an earlier attempt; without one, takes a token of each rate and returns None.

        Raises Refusal `idempotency_conflict`, `queue_full` or `rate_limited`.
        """
        if publish.is_given:
            publish.entry = self._found(publish)
        if publish.entry is None:
            if not publish.is_ephemeral:  # what waits of others, their owner knows
                self.queues.require(publish.info)
            self._rates.publish(publish.caller, publish.info, is_paid=publish.is_paid)
        return publish.entry

    def _found(self, publish: Publish) -> RecentPublish | None:
        return self.recent.find(publish.key, publish.fingerprint, self._clock.now())
