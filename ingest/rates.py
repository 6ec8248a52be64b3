"""The rates of a user and of a topic: publishes, bodies, creations, reads (docs/protocol.md, section 7).

Of a user's rates each ingest gives its share: the rate divided by the number of ingests that are linked. A topic has
its whole rate at each ingest, as a first bound only: its owner counts what all of them let through, and tells them for
how long to refuse it. So a topic that is published to by one ingest alone has its whole rate too. Tokens with
`service`, and open mode, have no rates.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Final, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.link_users import Throttle
from headgate.core.wire.rights import Caller
from headgate.core.wire.token_buckets import (
    MAX_BUCKETS,
    MINUTE_S,
    Rate,
    TokenBuckets,
    TopicBuckets,
    limited,
    topic_rates,
)
from headgate.core.wire.topic_settings import DEFAULTS, Settings
from headgate.runtime.http.answers import Header
from headgate.runtime.ports import Clock, Rng
from ingest.spread_waits import later

FREE_BYTES: Final = 64 * 1024  # a body up to this size costs nothing beyond its message
MAX_THROTTLED: Final = 50_000  # topics that owners have refused; about 16 MB
MAX_FOR_MS: Final = 3_600_000  # the longest refusal that is taken from an owner
_AFTER_REFUSAL: Final = 1  # tokens that a topic has left here when its owner no longer refuses it
Topic = tuple[str, int]  # its id and its epoch: a topic that is made again has full buckets

_POLICY: Final = b"ratelimit-policy"
_STATE: Final = b"ratelimit"


class RateLimits(NamedTuple):
    """The rates of the settings, by minute or second; `body_bytes` is the largest body of one publish."""

    publish_per_user_per_min: float = 100
    publish_per_topic_per_s: float = 100
    creations_per_user_per_min: float = 60
    reads_per_user_per_min: float = 600
    body_bytes: int = 256 * 1024


class Rates:
    """Takes tokens. Without one, a Refusal `rate_limited` names the time until there is one."""

    def __init__(self, clock: Clock, rng: Rng, limits: RateLimits, usual: Settings = DEFAULTS) -> None:
        """`usual` are the settings of topics that name none: their rate is that of `limits`."""
        self._rng = rng
        self._usual_limit = usual["rate_limit"]
        self._clock = clock
        self._limits = limits
        self._users = TokenBuckets()
        self._topics = TopicBuckets(limits.publish_per_topic_per_s, MAX_BUCKETS)
        self._throttled: OrderedDict[str, float] = OrderedDict()  # until when; the last told is last
        self.share(1)

    # -- what dispatchers tell

    def share(self, ingests: int) -> None:
        """Gives every user this ingest's share of its rates; `ingests` is how many there are."""
        limits, parts = self._limits, max(1, ingests)
        self._user = _a_minute(limits.publish_per_user_per_min / parts)
        self._creation = _a_minute(limits.creations_per_user_per_min / parts)
        self._read = _a_minute(limits.reads_per_user_per_min / parts)
        # As many bytes as all publishes of a user may have: a user within the rate of publishes never reaches it.
        self._bytes = _a_minute(limits.publish_per_user_per_min * limits.body_bytes / parts)
        self._user_policy = _policy(b"user", self._user)

    def throttled(self, throttles: Sequence[Throttle]) -> None:
        """Refuses publishes to these topics, each for its time from now on; the newest word about a topic counts."""
        now = self._clock.now()
        for topic_id, for_ms in ((throttle.topic_id, throttle.for_ms) for throttle in throttles):
            self._throttled.pop(topic_id, None)
            if for_ms > 0:
                self._throttled[topic_id] = now + min(for_ms, MAX_FOR_MS) / 1_000
                if len(self._throttled) > MAX_THROTTLED:
                    self._throttled.popitem(last=False)

    # -- what callers take

    def publish(self, caller: Caller, info: TopicInfo, *, is_paid: bool) -> None:
        """Takes a publish of the user (unless `is_paid`: it was taken before) and of the topic, or none of either.

        Raises Refusal `rate_limited`.
        """
        if caller.service:
            return
        now = self._clock.now()
        rates, user, topic = self._rates_of(info), f"u:{caller.user_id}", (info.topic_id, info.epoch)
        wait_topic = self._wait_of_topic(topic, rates, now)
        wait_user = 0.0 if is_paid else self._users.wait(user, self._user, now)
        if wait_user or wait_topic:
            whose = "user" if wait_user >= wait_topic else "topic"
            raise limited(f"the publish rate of this {whose} is used up", max(wait_user, wait_topic))
        if not is_paid:
            self._users.take(user, self._user, now)
        self._topics.take(topic, rates, now)

    def publish_and_create(self, caller: Caller) -> None:
        """Takes a publish and a creation of the user, whose publish is about to make a topic, or none of either.

        Raises Refusal `rate_limited`.
        """
        if caller.service:
            return
        now = self._clock.now()
        user, creator = f"u:{caller.user_id}", f"c:{caller.user_id}"
        wait = max(self._users.wait(user, self._user, now), self._users.wait(creator, self._creation, now))
        if wait:
            raise limited("this user publishes or creates topics too fast", wait)
        self._users.take(user, self._user, now)
        self._users.take(creator, self._creation, now)

    def create(self, caller: Caller) -> None:
        """Takes a topic creation of the user. Raises Refusal `rate_limited`."""
        self._one(caller, "c", self._creation, "this user creates topics too fast")

    def change_member(self, caller: Caller) -> None:
        """Takes a change of a member from the user's rate of topic creations. Raises Refusal `rate_limited`."""
        self._one(caller, "c", self._creation, "this user changes members or creates topics too fast")

    def read(self, caller: Caller) -> None:
        """Takes a read of the user. Raises Refusal `rate_limited`, with a spread wait."""
        self._reads(caller, 1)

    def require_read(self, caller: Caller) -> None:
        """Takes nothing. Raises Refusal `rate_limited` where the user has no read left."""
        self._reads(caller, 0)

    def body(self, caller: Caller, size: int) -> None:
        """Takes the bytes of a body that is about to be read. Raises Refusal `rate_limited`."""
        if size > FREE_BYTES:
            self._one(caller, "b", self._bytes, "this user sends more bytes than its publishes may have", size)

    # -- what clients are told

    def headers(self, caller: Caller, info: TopicInfo | None) -> tuple[Header, ...]:
        """Returns the headers RateLimit-Policy and RateLimit of an answer to a publish; none without rates.

        They tell of the user, and of the topic where one is given (draft-ietf-httpapi-ratelimit-headers).
        """
        if caller.service:
            return ()
        now, user = self._clock.now(), self._user
        left, back_s = _left(user, self._users.level(f"u:{caller.user_id}", user, now))
        if info is None:
            return (_POLICY, self._user_policy), (_STATE, b'"user";r=%d;t=%d' % (left, back_s))
        rates, topic = self._rates_of(info), (info.topic_id, info.epoch)
        of_topic, topic_back_s = _left(rates[0], self._level_of_topic(topic, rates[0], now))
        state = b'"user";r=%d;t=%d, "topic";r=%d;t=%d' % (left, back_s, of_topic, topic_back_s)
        if len(rates) > 1:
            level = self._topics.level(topic, rates[1], now, of_minute=True)
            state += b', "topic-minute";r=%d;t=%d' % _left(rates[1], level)
        return (_POLICY, _with_topic(self._user_policy, rates)), (_STATE, state)

    def with_headers(self, refusal: Refusal, caller: Caller, info: TopicInfo | None) -> Refusal:
        """Returns the refusal of a publish, with the headers that tell of its rates where it is `rate_limited`."""
        if refusal.code == "rate_limited":
            refusal.extra["headers"] = self.headers(caller, info)
        return refusal

    # -- helpers

    def _wait_of_topic(self, topic: Topic, rates: tuple[Rate, ...], now: float) -> float:
        wait = self._topics.wait(topic, rates, now)
        until = self._throttled.get(topic[0])
        if until is None:
            return wait
        if until <= now:
            del self._throttled[topic[0]]
            return wait
        # Publishers that press on must not have saved a burst at every ingest for the moment when this is over.
        self._topics.cap(topic, rates, now, _AFTER_REFUSAL)
        return max(wait, until - now)

    def _level_of_topic(self, topic: Topic, rate: Rate, now: float) -> float:
        level = self._topics.level(topic, rate, now)
        until = self._throttled.get(topic[0])
        if until is None or until <= now:
            return level
        return min(level, 1 - (until - now) * rate.per_s)  # the next token comes at that time

    def _one(self, caller: Caller, kind: str, rate: Rate, why: str, count: int = 1) -> None:
        if caller.service:
            return
        self._users.require(f"{kind}:{caller.user_id}", rate, self._clock.now(), why, count)

    def _reads(self, caller: Caller, count: int) -> None:
        try:
            self._one(caller, "r", self._read, "this user reads too fast", count)
        except Refusal as refusal:
            raise later(refusal, self._rng) from None

    def _rates_of(self, info: TopicInfo) -> tuple[Rate, ...]:
        limit = info.settings["rate_limit"]
        return self._topics.usual if limit == self._usual_limit else topic_rates(limit)


def _a_minute(count: float) -> Rate:
    """Returns the rate of so many a minute; however small a share is, one fits into its bucket."""
    return Rate(count / MINUTE_S, max(1.0, count))


def _policy(name: bytes, rate: Rate) -> bytes:
    return b'"%b";q=%d;w=%d' % (name, rate.burst, max(1, round(rate.burst / rate.per_s)))


def _left(rate: Rate, level: float) -> tuple[int, int]:
    """Returns the tokens left, and the seconds until there is one where none is, else until all are there."""
    per_s, burst = rate
    if level < 1:
        return 0, ceil((1 - level) / per_s)
    return int(level), ceil((burst - level) / per_s)


@lru_cache(1_000)
def _with_topic(user_policy: bytes, rates: tuple[Rate, ...]) -> bytes:
    names = (b"topic", b"topic-minute")
    return b", ".join([user_policy, *(_policy(name, rate) for name, rate in zip(names, rates, strict=False))])
