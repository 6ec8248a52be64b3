"""One message offered to a topic, and whether it may go on: idempotency first, then the rates; appends nothing."""

from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from headgate.core.publish.body import Publish, build
from headgate.core.publish.recent_publishes import Key, RecentPublish, RecentPublishes
from headgate.core.wire.envelope import KEYED, LOW, Item
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text, keyed_id, topic_key
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from headgate.runtime.ports import Clock
from ingest.rates import Rates

Answer = dict[str, Any]

_FINGERPRINT_BYTES: Final = 16


class Wait(NamedTuple):
    """What a publisher waits for, and when (seconds of the clock) the outcome is due."""

    sequenced: bool
    deadline: float


class Offer:
    """A checked publish to a topic that the caller may publish to.

    `given` says whether `client_msg_id` came from the client; ingest's own makes the same kind of id, so that a publish
    that ended in 504 can be repeated with it, but needs no long memory. `paid` says that the user's rate was taken when
    its topic was made for it.
    """

    def __init__(
        self,
        info: TopicInfo,
        caller: Caller,
        publish: Publish,
        client_msg_id: str,
        *,
        given: bool,
        paid: bool = False,
    ) -> None:
        self.info = info
        self.paid = paid
        self.caller = caller
        self.client_msg_id = client_msg_id
        self.given = given
        self.topic_key = topic_key(info.topic_id)
        self.id = keyed_id(self.topic_key, caller.user_id, client_msg_id)
        flags = (KEYED if given else 0) | (LOW if publish.low else 0)
        self.item = Item(self.id, flags, build(self.id, caller.user_id, publish))
        self.entry: RecentPublish | None = None

    @property
    def key(self) -> Key:
        """What the message is remembered by."""
        return self.info.epoch, self.id

    @cached_property
    def fingerprint(self) -> bytes:
        """The same for the same body. The tail holds the id too, which is equal wherever two are compared."""
        return blake2b(self.item.tail + bytes([self.item.flags & LOW]), digest_size=_FINGERPRINT_BYTES).digest()

    @property
    def ephemeral(self) -> bool:
        """Whether the topic's messages never touch the log."""
        return self.info.settings.get("profile") == "ephemeral"

    def unknown(self, detail: str) -> Refusal:
        """Returns the 504 that names the message, so that it can be repeated."""
        return Refusal(
            "outcome_unknown",
            detail,
            message_id=id_text(self.id),
            client_msg_id=self.client_msg_id,
            topic_id=self.info.topic_id,
        )


def answer_to(offer: Offer, count: int | None) -> Answer:
    """Returns the members that every answer has; `count` are the subscriptions known, None when nobody could say."""
    return {
        "message_id": id_text(offer.id),
        "client_msg_id": offer.client_msg_id,
        "topic_id": offer.info.topic_id,
        "delivered_to": count or 0,
        "delivered_to_basis": "unknown" if count is None else "registry",
        "dropped": False,
    }


class Admission:
    """Decides about offers."""

    def __init__(self, clock: Clock, rates: Rates) -> None:
        self.answers = RecentPublishes()
        self._clock = clock
        self._rates = rates

    def admit(self, offer: Offer) -> RecentPublish | None:
        """Returns what is known of an earlier attempt; without one a token of each rate is taken.

        Raises Refusal `idempotency_conflict` or `rate_limited`.
        """
        if offer.given:
            offer.entry = self.answers.find(offer.key, offer.fingerprint, self._clock.now())
        if offer.entry is None:
            self._rates.publish(offer.caller, offer.info, paid=offer.paid)
        return offer.entry
