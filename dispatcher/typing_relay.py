"""Passes `typing` on to the gateways of a topic: a hint that is kept nowhere, and may be lost."""

from collections.abc import Callable, Mapping
from typing import Final

from dispatcher.shard import Destination, ShardOwner
from headgate.core.wire import rights
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_presence import Typed, Typing, TypingTaken
from headgate.core.wire.token_buckets import Rate, TokenBuckets
from headgate.runtime.ports import Clock

FROM_VERSION: Final = 2  # of a link whose gateway knows Typed
ONE_USER: Final = Rate(1, 1)  # in one topic
USERS: Final = 20  # of one topic in a second: nobody reads more names
DELIVERIES: Final = 20_000  # of one topic in a second; where more follow it, one user a second is passed on


class TypingRelay:
    """Serves one shard."""

    def __init__(self, owner: ShardOwner, clock: Clock) -> None:
        self.handlers: Mapping[type, Callable[..., None]] = {Typing: self._typing}
        self._owner = owner
        self._clock = clock
        self._pace = TokenBuckets()

    def _typing(self, peer: Destination, ask: Typing) -> None:
        """Tells the gateways, unless it is too often; the answer is the same. Raises Refusal."""
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None or row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        role = self._owner.shard.role(topic_key(row.topic_id), row, ask.caller.user_id)
        rights.require(rights.may_publish(ask.caller, row, role), ask.caller, row, role, "type in")
        if self._passes(row.topic_id, ask.caller.user_id):
            typed = Typed(row.topic_id, row.epoch, ask.caller.user_id)
            for route in self._owner.routes.hosts(row.topic_id):
                if route.gateway.version >= FROM_VERSION and not route.gateway.congested:
                    route.gateway.send(typed)
        peer.send(TypingTaken(ask.req))

    def _passes(self, topic_id: str, user_id: str) -> bool:
        now = self._clock.now()
        users = max(min(USERS, DELIVERIES // max(self._owner.routes.count(topic_id), 1)), 1)
        of_topic, of_user = Rate(users, users), (topic_id, user_id)
        if self._pace.wait(of_user, ONE_USER, now) or self._pace.wait(topic_id, of_topic, now):
            return False
        self._pace.take(of_user, ONE_USER, now)
        self._pace.take(topic_id, of_topic, now)
        return True
