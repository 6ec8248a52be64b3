"""The rates of a user and of a topic: publishes, bodies, creations, reads (docs/protocol.md, section 7).

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


class RateLimits(NamedTuple):
    """The rates of the settings, by minute or second; `body_bytes` is the largest body of one publish."""

    publish_per_user_per_min: float = 100
    publish_per_topic_per_s: float = 100
    creations_per_user_per_min: float = 60
    reads_per_user_per_min: float = 600
    body_bytes: int = 256 * 1024


class Rates:
    """Takes tokens. Without one, a Refusal `rate_limited` names the time until there is one."""

    def __init__(self, clock: Clock, limits: RateLimits) -> None:
        self._clock = clock
        self._buckets = TokenBuckets()
        self._user = _a_minute(limits.publish_per_user_per_min)
        self._topic = Rate(limits.publish_per_topic_per_s, 2 * limits.publish_per_topic_per_s)
        self._creation = _a_minute(limits.creations_per_user_per_min)
        self._read = _a_minute(limits.reads_per_user_per_min)
        # As many bytes as all publishes of a user may have: a user within the rate of publishes never reaches it.
        self._bytes = _a_minute(limits.publish_per_user_per_min * limits.body_bytes)

    def publish(self, caller: Caller, info: TopicInfo, *, is_paid: bool) -> None:
        """Takes a publish of the user (unless `is_paid`: it was taken before) and of the topic, or none of either.

        Raises Refusal `rate_limited`.
        """
        if caller.service:
            return
        now = self._clock.now()
        topic, topic_rate = f"t:{info.topic_id}", self._topic_rate(info)
        wait_topic = self._buckets.wait(topic, topic_rate, now)
        if is_paid:
            wait_user = 0.0
        else:
            user = f"u:{caller.user_id}"
            wait_user = self._buckets.wait(user, self._user, now)
        if wait_user or wait_topic:
            whose = "user" if wait_user >= wait_topic else "topic"
            raise _limited(f"the publish rate of this {whose} is used up", max(wait_user, wait_topic))
        if not is_paid:
            self._buckets.take(user, self._user, now)
        self._buckets.take(topic, topic_rate, now)

    def publish_and_create(self, caller: Caller) -> None:
        """Takes a publish and a creation of the user, whose publish is about to make a topic, or none of either.

        Raises Refusal `rate_limited`.
        """
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
