"""What the owners of a gateway's topics know of who is there, in memory."""

from collections.abc import Callable
from typing import Any

from headgate.core.sequencer.topic_presence import PresenceTopics
from headgate.core.wire import link, link_presence
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller, may_know_presence, require


class PresenceTwin:
    """What the owners know of who is there. `told` has the announcements; watching gateways are told at once."""

    def __init__(
        self,
        topics: dict[str, Any],
        push: Callable[[Any], None],
        role: Callable[[Caller, Any], Role | None],
        shard_of: Callable[[str], int],
    ) -> None:
        self._made = topics
        self._push = push
        self._role = role
        self._shard_of = shard_of
        self._shards: dict[int, PresenceTopics[str]] = {}
        self.told: list[link_presence.AttachPresence | link_presence.PresenceChanged] = []
        self._watched: dict[str, str] = {}  # topics by the mode that was told

    def of(self, topic_id: str) -> PresenceTopics[str]:
        """The topics of the shard of one."""
        return self._shards.setdefault(self._shard_of(topic_id), PresenceTopics(1_000))

    def take(self, message: link_presence.AttachPresence | link_presence.PresenceChanged) -> None:
        self.told.append(message)
        topics = self._shards.setdefault(message.shard, PresenceTopics(1_000))
        if isinstance(message, link_presence.AttachPresence) and message.first:
            topics.begin("g")
        for users in message.topics:
            topics.take("g", users)
            made = self._made.get(users.topic_id)
            if users.whole and not users.users:
                self._watched.pop(users.topic_id, None)
            if users.watch and made is not None and self._watched.get(users.topic_id) != self.mode(made):
                self.of(users.topic_id).open(users.topic_id, users.epoch).end_telling()
                self.state(users.topic_id)
        if isinstance(message, link_presence.AttachPresence) and message.last:
            for _ in topics.end("g"):
                pass
        for users in message.topics:
            self.tell(users.topic_id)

    def elsewhere(self, topic_id: str, user_id: str, connections: int, *, away: bool = False) -> None:
        """Something changes on another gateway."""
        user = link_presence.UserPresence(user_id, connections, 5, away)
        epoch = self._made[topic_id].epoch
        self.of(topic_id).take("other", link_presence.TopicUsers(topic_id, epoch, [user]))
        self.tell(topic_id)

    def forget(self) -> None:
        """A new owner knows nothing."""
        self._shards.clear()
        self._watched.clear()

    def granted(self, ask: link.AskSubscribe, topic: Any) -> int:
        if self.mode(topic) == "none" or not may_know_presence(ask.caller, topic, self._role(ask.caller, topic)):
            return -1
        if ask.presence == 2 or (ask.presence and self.mode(topic) == "list"):
            self.state(topic.topic_id)
        found = self.of(topic.topic_id).open(topic.topic_id, topic.epoch)
        return found.count + (ask.caller.user_id not in found)

    def answer(self, ask: link_presence.AskPresence, topic: Any) -> link.Answer:
        role = self._role(ask.caller, topic)
        require(may_know_presence(ask.caller, topic, role), ask.caller, topic, role, "see who follows")
        found = self.of(topic.topic_id).open(topic.topic_id, topic.epoch)
        if self.mode(topic) == "none":
            return link_presence.PresenceAnswer(ask.req, 0, [])
        users = found.listed() if self.mode(topic) == "list" else []
        return link_presence.PresenceAnswer(ask.req, found.count, users[: ask.limit])

    def mode(self, topic: Any) -> str:
        return str(topic.settings.get("presence", "count"))

    def state(self, topic_id: str) -> None:
        topic = self._made[topic_id]
        found, mode = self.of(topic_id).open(topic_id, topic.epoch), self.mode(topic)
        self._watched[topic_id] = mode
        users = found.begin_telling() if mode == "list" else []
        self._push(link_presence.PresenceState(topic_id, topic.epoch, mode, found.count, users))

    def tell(self, topic_id: str) -> None:
        topic, found = self._made.get(topic_id), self.of(topic_id).get(topic_id)
        if topic is None or found is None or topic_id not in self._watched:
            return
        changes = found.take_changes() if self.mode(topic) == "list" else []
        users = [change.now for change in changes if change.now is not None]
        left = [change.user_id for change in changes if change.now is None]
        self._push(link_presence.PresenceMoved(topic_id, topic.epoch, found.count, users, left))
