"""Topics that are created for a subscriber (`topics.auto_create`): the append, its rate, and who waits for it."""

import asyncio
from collections.abc import Callable
from typing import Final

from dispatcher.history import Asker
from headgate.core.wire import topic_settings
from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.records import Appended, LogName
from headgate.core.wire.rights import Caller
from headgate.core.wire.token_buckets import Rate, TokenBuckets
from headgate.runtime.ports import Clock, Log, Rng

MINUTE_S: Final = 60


class TopicCreator:
    """Appends the create records of this node. A user creates at most `per_user_per_min` topics a minute here.

    `profile` is the setting `topics.profile`.
    """

    def __init__(self, log: Log, clock: Clock, rng: Rng, per_user_per_min: float, profile: str = "durable") -> None:
        self._log = log
        self._clock = clock
        self._rng = rng
        self._settings = topic_settings.create(None, profile)
        self._rate = Rate(per_user_per_min / MINUTE_S, per_user_per_min)
        self._buckets = TokenBuckets()

    def create(self, shard: int, topic_id: str, caller: Caller, failed: Callable[[], None]) -> None:
        """Appends a create record; calls `failed` where the record did not reach the log.

        Raises Refusal `rate_limited`.
        """
        self._charge(caller)
        key = topic_key(topic_id)
        control = CreateTopic(topic_id, topic_id, "PUBLIC", caller.user_id, self._settings)
        value = encode_control(encode_body(control), 0, random_id(key, self._rng.entropy(12)))

        def done(append: "asyncio.Future[Appended]") -> None:
            if not append.cancelled() and append.exception() is not None:
                failed()

        self._log.append(LogName.MESSAGES, shard, key, value).add_done_callback(done)

    def _charge(self, caller: Caller) -> None:
        if caller.service:
            return
        now = self._clock.now()
        wait_s = self._buckets.wait(caller.user_id, self._rate, now)
        if wait_s:
            raise Refusal("rate_limited", "this user creates topics too fast", retry_after_ms=int(wait_s * 1_000) + 1)
        self._buckets.take(caller.user_id, self._rate, now)


class PendingTopics:
    """The topics of one shard that are being created, and the callbacks of those who wait for them."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[Asker, Callable[[bool], None]]]] = {}

    def __contains__(self, topic_id: str) -> bool:
        """Whether somebody waits for the topic."""
        return bool(self._waiting.get(topic_id))

    def wait(self, topic_id: str, asker: Asker, callback: Callable[[bool], None]) -> None:
        """Calls back once it is decided: with True where the topic exists, with False where it could not be created."""
        self._waiting.setdefault(topic_id, []).append((asker, callback))

    def decided(self, topic_id: str, *, exists: bool) -> None:
        """Calls back who waits for the topic."""
        for asker, callback in self._waiting.pop(topic_id, ()):
            if asker.open:
                callback(exists)

    def left(self, asker: Asker) -> None:
        """Forgets an asker that has closed. The topic itself is still being created."""
        for topic_id, waiting in self._waiting.items():
            self._waiting[topic_id] = [(a, callback) for a, callback in waiting if a is not asker]
