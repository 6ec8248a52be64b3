"""One message offered to a topic, and whether it may go on: idempotency first, then the rates; appends nothing."""

from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from headgate.core.answers import Answers, Entry, Key
from headgate.core.buckets import Buckets, Rate
from headgate.core.envelope import KEYED, LOW, Item
from headgate.core.errors import Refusal
from headgate.core.ids import id_text, keyed_id, topic_key
from headgate.core.link import TopicInfo
from headgate.core.rights import Caller
from headgate.core.tail import Publish, build
from headgate.core.topic_settings import DEFAULTS
from headgate.runtime.ports import Clock

Answer = dict[str, Any]

_FINGERPRINT_BYTES: Final = 16


class Wait(NamedTuple):
    """What a publisher waits for, and when (seconds of the clock) the outcome is due."""

    sequenced: bool
    deadline: float


class Offer:
    """A checked publish to a topic that the caller may publish to.

    `given` says whether `client_msg_id` came from the client; ingest's own makes the same kind of id, so that a publish
    that ended in 504 can be repeated with it, but needs no long memory.
    """

    def __init__(self, info: TopicInfo, caller: Caller, publish: Publish, client_msg_id: str, *, given: bool) -> None:
        self.info = info
        self.caller = caller
        self.client_msg_id = client_msg_id
        self.given = given
        self.topic_key = topic_key(info.topic_id)
        self.id = keyed_id(self.topic_key, caller.user_id, client_msg_id)
        flags = (KEYED if given else 0) | (LOW if publish.low else 0)
        self.item = Item(self.id, flags, build(self.id, caller.user_id, publish))
        self.entry: Entry | None = None

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
    """Decides about offers. Rates hold for this process: n ingests allow n times the rate (PROTOCOL section 7)."""

    def __init__(self, clock: Clock, user_per_min: float, topic_per_s: float) -> None:
        self.answers = Answers()
        self._buckets = Buckets()
        self._clock = clock
        self._user_rate = Rate(user_per_min / 60, user_per_min)
        self._topic_default = Rate(topic_per_s, 2 * topic_per_s)

    def admit(self, offer: Offer) -> Entry | None:
        """Returns what is known of an earlier attempt; without one a token of each rate is taken.

        Raises Refusal `idempotency_conflict` or `rate_limited`.
        """
        now = self._clock.now()
        offer.entry = self.answers.find(offer.key, offer.fingerprint, now) if offer.given else None
        if offer.entry is None:
            self._charge(offer, now)
        return offer.entry

    def _charge(self, offer: Offer, now: float) -> None:
        if offer.caller.service:
            return
        user, topic = f"u:{offer.caller.user_id}", f"t:{offer.info.topic_id}"
        topic_rate = self._topic_rate(offer.info)
        wait_user = self._buckets.wait(user, self._user_rate, now)
        wait_topic = self._buckets.wait(topic, topic_rate, now)
        if wait_user or wait_topic:
            whose = "user" if wait_user >= wait_topic else "topic"
            wait_ms = max(1, int(max(wait_user, wait_topic) * 1_000))
            raise Refusal("rate_limited", f"the publish rate of this {whose} is used up", retry_after_ms=wait_ms)
        self._buckets.take(user, self._user_rate, now)
        self._buckets.take(topic, topic_rate, now)

    def _topic_rate(self, info: TopicInfo) -> Rate:
        limit = info.settings["rate_limit"]
        if limit == DEFAULTS["rate_limit"]:
            return self._topic_default
        return Rate(limit["per_s"], limit["burst"])
