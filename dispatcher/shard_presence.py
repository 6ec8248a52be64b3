"""The presence of one shard's topics: who follows each, as gateways announce it, and who is told of it.

Nothing of it is in the log. A new owner knows nobody; it tells gateways how it is once all of them have announced.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from dispatcher.announcements import Announcements
from dispatcher.shard import Destination, ShardOwner
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.topic_presence import PresenceTopics, TopicPresence
from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link import AskSubscribe
from headgate.core.wire.link_presence import (
    AskPresence,
    AttachPresence,
    PresenceAnswer,
    PresenceChanged,
    PresenceMoved,
    PresenceState,
    TopicUsers,
    UserPresence,
)
from headgate.core.wire.linkcodec import refused_with
from headgate.core.wire.member_roles import Role
from headgate.core.wire.told_users import UserChange
from headgate.core.wire.topic_settings import presence_of
from headgate.runtime.ports import Clock

GRACE_S: Final = 6.0  # a link that was lost is open again within 2 s; a frozen gateway's ends after 6 s: 12 s, below 15
TELL_S: Final = 0.1  # a gateway hears of one topic at most so often, and tells its clients at most once a second
TOLD: Final = 500  # topics that one slice tells: a few milliseconds
LISTED: Final = 1_000
NOT_TOLD: Final = -1  # `Subscribed.users` where presence is off, or not for this caller
WANTS_CHANGES: Final = 2  # `AskSubscribe.presence`
MAX_USERS: Final = 10_001  # of one answer: one more than may be listed


class _Watched:
    """A topic that gateways watch. `gateways` says of each whether it knows all that was told so far."""

    __slots__ = ("count", "gateways", "mode")

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.count = -1
        self.gateways: dict[Destination, bool] = {}


class ShardPresence:
    """Takes the announcements of gateways. At most `most` users of a topic are listed."""

    def __init__(
        self, owner: ShardOwner, clock: Clock, announcements: Announcements[Destination], most: int = LISTED
    ) -> None:
        self.announcements = announcements
        self.handlers: Mapping[type, Callable[..., None]] = {
            AttachPresence: self._attach,
            PresenceChanged: self._changed,
            AskPresence: self._answer,
        }
        self._owner = owner
        self._clock = clock
        self._topics: PresenceTopics[str] = PresenceTopics(most)
        self._links: dict[str, Destination] = {}  # the gateways that have announced, by name
        self._grace: dict[str, asyncio.TimerHandle] = {}  # gateways whose link was lost
        self._watched: dict[str, _Watched] = {}
        self._dirty: dict[str, None] = {}
        self._told_at = float("-inf")
        self._timer: asyncio.Handle | None = None
        announcements.hold(self._all_announced, 0)

    # What the shard needs

    def granted(self, peer: Destination, ask: AskSubscribe, row: Row, role: Role | None) -> int:
        """Returns how many users there are, the caller included; sends their state first where the gateway wants it."""
        mode = presence_of(row.settings)
        if mode == "none" or not rights.may_know_presence(ask.caller, row, role):
            return NOT_TOLD
        if ask.presence == WANTS_CHANGES or (ask.presence and mode == "list"):
            self._watch(peer, row)
        topic = self._topic(row)
        if topic is None:
            return 1
        return topic.count + (ask.caller.user_id not in topic)

    def left(self, peer: Destination) -> None:
        """A link was closed. Its gateway's users stay for GRACE_S: it may come back."""
        self.announcements.left(peer)
        for watched in self._watched.values():
            watched.gateways.pop(peer, None)
        for name in [name for name, link in self._links.items() if link is peer]:
            del self._links[name]
            self._grace[name] = asyncio.get_running_loop().call_later(GRACE_S, self._give_up, name)

    def close(self) -> None:
        """The shard is no longer served here."""
        self.announcements.close()
        for timer in self._grace.values():
            timer.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # What gateways announce

    def _attach(self, peer: Destination, attach: AttachPresence) -> None:
        if attach.first:
            self._links[peer.name] = peer
            self._topics.begin(peer.name)
            grace = self._grace.pop(peer.name, None)
            if grace is not None:
                grace.cancel()
        self._take(peer, attach.topics)
        if attach.last:
            self._forget(self._topics.end(peer.name))
            self.announcements.heard(peer)

    def _changed(self, peer: Destination, changed: PresenceChanged) -> None:
        self._take(peer, changed.topics)

    def _take(self, peer: Destination, topics: list[TopicUsers]) -> None:
        for users in topics:
            row = self._owner.rows.get(topic_key(users.topic_id))
            if row is not None and row.epoch > users.epoch:
                continue
            if row is not None and row.epoch == users.epoch and presence_of(row.settings) == "none" and users.users:
                continue  # the gateway does not know yet that it is off
            if self._topics.take(peer.name, users) is None:
                continue
            if users.watch:
                self._watched.setdefault(users.topic_id, _Watched("")).gateways.setdefault(peer, False)
            self._note(users.topic_id)

    def _give_up(self, name: str) -> None:
        """A gateway did not come back."""
        del self._grace[name]
        self._topics.begin(name)
        self._forget(self._topics.end(name))

    def _forget(self, sweep: Iterator[str]) -> None:
        """Forgets users a slice a loop turn."""
        topic_id = next(sweep, None)
        if topic_id is not None and not self._owner.closed:
            self._note(topic_id)
            asyncio.get_running_loop().call_soon(self._forget, sweep)

    def _all_announced(self) -> None:
        for topic_id, topic in self._topics.all():
            topic.list_oldest()
            watched = self._watched.get(topic_id)
            if watched is not None:
                watched.gateways = dict.fromkeys(watched.gateways, False)
                self._note(topic_id)

    # What gateways are told

    def _watch(self, peer: Destination, row: Row) -> None:
        watched = self._watched.setdefault(row.topic_id, _Watched(presence_of(row.settings)))
        watched.gateways[peer] = True
        self._send_state(row, self._topics.open(row.topic_id, row.epoch), peer)

    def _note(self, topic_id: str) -> None:
        """Something of a topic has changed."""
        if topic_id not in self._watched:
            self._topics.refresh(topic_id)
            return
        self._dirty[topic_id] = None
        if self._timer is None and self.announcements.complete:
            self._plan(max(self._told_at + TELL_S - self._clock.now(), 0.0))

    def _plan(self, after_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(after_s, self._tell) if after_s else loop.call_soon(self._tell)

    def _tell(self) -> None:
        """Tells what has changed, some topics a loop turn."""
        self._timer = None
        if self._owner.closed:
            return
        dirty, self._dirty = list(self._dirty), {}
        self._dirty = dict.fromkeys(dirty[TOLD:])
        for topic_id in dirty[:TOLD]:
            if self._tell_topic(topic_id):
                self._dirty[topic_id] = None
        if len(dirty) > TOLD:
            self._plan(0.0)
            return
        self._told_at = self._clock.now()
        if self._dirty:
            self._plan(TELL_S)

    def _tell_topic(self, topic_id: str) -> bool:
        """Tells the watchers of one topic; returns whether one of them must be told later."""
        row, watched = self._owner.rows.get(topic_key(topic_id)), self._watched[topic_id]
        topic = None if row is None else self._topic(row)
        for peer in list(watched.gateways):
            if not self._hosts(peer, topic_id, topic):
                del watched.gateways[peer]
        if row is None or topic is None or not watched.gateways or presence_of(row.settings) == "none":
            del self._watched[topic_id]
            if topic is not None:
                topic.end_telling()
            self._topics.refresh(topic_id)
            return False
        self._send_changes(row, topic, watched)
        return topic.has_room or not all(watched.gateways.values())

    def _send_changes(self, row: Row, topic: TopicPresence[str], watched: _Watched) -> None:
        mode = presence_of(row.settings)
        if watched.mode != mode:
            topic.end_telling()
            watched.mode, watched.gateways = mode, dict.fromkeys(watched.gateways, False)
        changes = topic.take_changes() if mode == "list" else []
        moved = _moved(row, topic.count, changes) if changes or watched.count != topic.count else None
        watched.count = topic.count
        for peer, knows in list(watched.gateways.items()):
            if peer.congested:
                watched.gateways[peer] = False
            elif not knows:
                watched.gateways[peer] = True
                self._send_state(row, topic, peer)
            elif moved is not None:
                peer.send(moved)

    def _hosts(self, peer: Destination, topic_id: str, topic: TopicPresence[str] | None) -> bool:
        if not peer.open:
            return False
        hosted = topic is not None and topic.hosted_by(peer.name)
        return hosted or self._owner.routes.get(peer, topic_id) is not None

    def _send_state(self, row: Row, topic: TopicPresence[str], peer: Destination) -> None:
        mode = presence_of(row.settings)
        users = topic.begin_telling() if mode == "list" else []
        peer.send(PresenceState(row.topic_id, row.epoch, mode, topic.count, users))

    def _topic(self, row: Row) -> TopicPresence[str] | None:
        topic = self._topics.get(row.topic_id)
        return topic if topic is not None and topic.epoch == row.epoch else None

    # Questions

    def _answer(self, peer: Destination, ask: AskPresence) -> None:
        if not self.announcements.complete:
            if not self.announcements.hold(lambda: self._answer_later(peer, ask), 0):
                raise Refusal("not_ready", "the gateways have not announced who is there yet", retry_after_ms=1_000)
            return
        peer.send(self._page(ask))

    def _answer_later(self, peer: Destination, ask: AskPresence) -> None:
        try:
            answer = self._page(ask)
        except Refusal as refusal:
            peer.send(refused_with(ask.req, refusal))
        else:
            peer.send(answer)

    def _page(self, ask: AskPresence) -> PresenceAnswer:
        """Returns the answer. Raises Refusal."""
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None:
            raise rights.unknown_topic(ask.topic_id)
        role = self._owner.shard.role(topic_key(row.topic_id), row, ask.caller.user_id)
        allowed = rights.may_know_presence(ask.caller, row, role)
        rights.require(allowed, ask.caller, row, role, "see who follows")
        topic, mode = self._topic(row), presence_of(row.settings)
        if topic is None or mode == "none":
            return PresenceAnswer(ask.req, 0, [])
        listed = topic.listed() if mode == "list" and ask.limit > 0 else []
        users = sorted((user for user in listed if user.user_id > ask.after), key=lambda user: user.user_id)
        return PresenceAnswer(ask.req, topic.count, users[: min(ask.limit, MAX_USERS)])


def _moved(row: Row, count: int, changes: list[UserChange[UserPresence]]) -> PresenceMoved:
    users = [change.now for change in changes if change.now is not None]
    left = [change.user_id for change in changes if change.now is None]
    return PresenceMoved(row.topic_id, row.epoch, count, users, left)
