"""What a user may ask of this ingest in a minute (PROTOCOL section 7): publishes, bodies, creations, reads.

Rates hold for this process: n ingests allow n times the rate. Tokens with `service`, and open mode, have none.
"""

from typing import Final, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from headgate.core.wire.token_buckets import Rate, TokenBuckets
from headgate.core.wire.topic_settings import DEFAULTS
from headgate.runtime.ports import Clock

FREE_BYTES: Final = 64 * 1024  # a body up to this size costs nothing beyond its message


class Allowed(NamedTuple):
    """The rates as the settings have them; `body_bytes` is the largest body of one publish."""

    publish_per_user_per_min: float = 100
    publish_per_topic_per_s: float = 100
    creations_per_user_per_min: float = 60
    reads_per_user_per_min: float = 600
    body_bytes: int = 256 * 1024


class Rates:
    """Takes tokens, or says how long until there is one."""

    def __init__(self, clock: Clock, allowed: Allowed) -> None:
        self._clock = clock
        self._buckets = TokenBuckets()
        self._user = _a_minute(allowed.publish_per_user_per_min)
        self._topic = Rate(allowed.publish_per_topic_per_s, 2 * allowed.publish_per_topic_per_s)
        self._creation = _a_minute(allowed.creations_per_user_per_min)
        self._read = _a_minute(allowed.reads_per_user_per_min)
        # As many bytes as all publishes of a user may have: who stays within his messages never meets it.
        self._bytes = _a_minute(allowed.publish_per_user_per_min * allowed.body_bytes)

    def publish(self, caller: Caller, info: TopicInfo, *, paid: bool) -> None:
        """Takes a publish of the user (unless it is `paid` already) and of the topic, or none of either.

        Raises Refusal `rate_limited`.
        """
        if caller.service:
            return
        now = self._clock.now()
        topic, topic_rate = f"t:{info.topic_id}", self._topic_rate(info)
        wait_topic = self._buckets.wait(topic, topic_rate, now)
        if paid:
            wait_user = 0.0
        else:
            user = f"u:{caller.user_id}"
            wait_user = self._buckets.wait(user, self._user, now)
        if wait_user or wait_topic:
            whose = "user" if wait_user >= wait_topic else "topic"
            raise _limited(f"the publish rate of this {whose} is used up", max(wait_user, wait_topic))
        if not paid:
            self._buckets.take(user, self._user, now)
        self._buckets.take(topic, topic_rate, now)

    def publish_and_create(self, caller: Caller) -> None:
        """Takes the user's publish and creation for a topic that his publish is about to make, or none of either."""
        if caller.service:
            return
        now = self._clock.now()
        user, creator = f"u:{caller.user_id}", f"c:{caller.user_id}"
        wait = max(self._buckets.wait(user, self._user, now), self._buckets.wait(creator, self._creation, now))
        if wait:
            raise _limited("this user publishes or creates topics too fast", wait)
        self._buckets.take(user, self._user, now)
        self._buckets.take(creator, self._creation, now)

    def create(self, caller: Caller) -> None:
        """Takes a topic creation of the user. Raises Refusal `rate_limited`."""
        self._one(caller, "c", self._creation, "this user creates topics too fast")

    def read(self, caller: Caller) -> None:
        """Takes a read of the user. Raises Refusal `rate_limited`."""
        self._one(caller, "r", self._read, "this user reads too fast")

    def body(self, caller: Caller, size: int) -> None:
        """Takes the bytes of a body that is about to be read. Raises Refusal `rate_limited`."""
        if size > FREE_BYTES:
            self._one(caller, "b", self._bytes, "this user sends more bytes than its publishes may have", size)

    def _one(self, caller: Caller, kind: str, rate: Rate, why: str, count: int = 1) -> None:
        if caller.service:
            return
        now = self._clock.now()
        key = f"{kind}:{caller.user_id}"
        wait = self._buckets.wait(key, rate, now)
        if wait:
            raise _limited(why, wait)
        self._buckets.take(key, rate, now, count)

    def _topic_rate(self, info: TopicInfo) -> Rate:
        limit = info.settings["rate_limit"]
        if limit == DEFAULTS["rate_limit"]:
            return self._topic
        return Rate(limit["per_s"], limit["burst"])


def _a_minute(count: float) -> Rate:
    return Rate(count / 60, count)


def _limited(why: str, wait_s: float) -> Refusal:
    return Refusal("rate_limited", why, retry_after_ms=max(1, int(wait_s * 1_000)))
