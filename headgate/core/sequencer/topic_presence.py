"""Who follows a topic, over all gateways: counted exactly, and listed up to a bound. Soft state: gateways announce it.

A gateway is any hashable object that names it over a lost link. Those who are listed are the users who are there for
the longest time, so that a new owner lists the same ones; a user above the bound is listed when a place becomes free.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

from headgate.core.wire.link_presence import TopicUsers, UserPresence
from headgate.core.wire.told_users import ToldUsers, UserChange

SWEPT: Final = 1_000  # users of a gateway that are looked at in one slice: about a millisecond
LOOKED_AT: Final = 2_000  # entries of users who wait for a place, or have left: about two milliseconds
_SPARE: Final = 1_000  # entries of users who have left among those that wait for a place, before they are cleared out

G = TypeVar("G")


class _User:
    """`gateways` have him online, or away. `since` is Unix milliseconds."""

    __slots__ = ("connections", "is_listed", "online", "since")

    def __init__(self, since: int) -> None:
        self.connections = 0
        self.online = 0  # gateways on which one of his connections is online
        self.since = since
        self.is_listed = False


class TopicPresence(Generic[G]):
    """The users of one topic. At most `most` are listed."""

    def __init__(self, epoch: int, most: int) -> None:
        self.epoch = epoch
        self._most = most
        self._users: dict[str, _User] = {}
        self._listed: dict[str, _User] = {}
        self._waiting: list[tuple[int, str]] = []  # a heap of users who are not listed: (since, user id)
        self._gateways: dict[G, dict[str, int]] = {}  # by user: twice his connections, and 1 more where he is online
        self._told: ToldUsers[UserPresence] | None = None  # None while nobody is told

    @property
    def count(self) -> int:
        """How many users there are."""
        return len(self._users)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._users

    def hosted_by(self, gateway: G) -> bool:
        """Returns whether a gateway has users of the topic."""
        return gateway in self._gateways

    def users_on(self, gateway: G) -> list[str]:
        """Returns the users whom a gateway has."""
        return list(self._gateways.get(gateway, ()))

    @property
    def has_room(self) -> bool:
        """Whether a place is free and somebody may wait for it: `fill` lists more."""
        return len(self._listed) < self._most and bool(self._waiting)

    def fill(self) -> None:
        """Gives free places to the users who wait for the longest time; in several calls where very many have left.

        There is no more to do than users have left: one call for each message of a gateway keeps up.
        """
        for _ in range(LOOKED_AT):
            if not self.has_room:
                return
            _, user_id = heappop(self._waiting)
            user = self._users.get(user_id)
            if user is not None and not user.is_listed:
                user.is_listed = True
                self._listed[user_id] = user
                self._note(user_id, user)

    def listed(self) -> list[UserPresence]:
        """Returns the users that are listed."""
        self.fill()
        return [_shown(user_id, user) for user_id, user in self._listed.items()]

    def set(self, gateway: G, announced: UserPresence) -> None:
        """Takes what a gateway says about a user."""
        before = self._gateways.get(gateway, {}).get(announced.user_id, 0)
        after = 2 * announced.connections + (not announced.away) if announced.connections > 0 else 0
        if after != before:
            self._keep(gateway, announced.user_id, after)
            self._add(announced.user_id, (after >> 1) - (before >> 1), (after & 1) - (before & 1), announced.since)

    def remove(self, gateway: G, user_id: str) -> None:
        """A gateway has a user no longer."""
        self.set(gateway, UserPresence(user_id, 0, 0))

    def list_oldest(self) -> None:
        """Lists those who are there for the longest time: gateways have announced their users one after another."""
        if not self._waiting:
            return
        for user_id, user in self._listed.items():
            user.is_listed = False
            heappush(self._waiting, (user.since, user_id))
        listed, self._listed = self._listed, {}
        while self.has_room:
            self.fill()
        for user_id in listed:
            if user_id not in self._listed:
                self._note(user_id, None)

    # What watching gateways are told

    def begin_telling(self) -> list[UserPresence]:
        """Returns the users listed, for one more who is told; from now on `take_changes` has what differs."""
        listed = self.listed()
        if self._told is None:
            self._told = ToldUsers({user.user_id: user for user in listed})
        self._told.shown()
        return listed

    def take_changes(self) -> list[UserChange[UserPresence]]:
        """Returns what is different since the last call."""
        self.fill()
        return [] if self._told is None else self._told.take()

    def end_telling(self) -> None:
        """Nobody is told any longer."""
        self._told = None

    def _keep(self, gateway: G, user_id: str, packed: int) -> None:
        users = self._gateways.setdefault(gateway, {})
        if packed:
            users[user_id] = packed
            return
        del users[user_id]
        if not users:
            del self._gateways[gateway]

    def _add(self, user_id: str, connections: int, online: int, since: int) -> None:
        user = self._users.get(user_id)
        if user is None:
            user = self._users[user_id] = _User(since)
            self._enter(user_id, user)
        user.connections += connections
        user.online += online
        if user.connections <= 0:
            del self._users[user_id]
            self._leave(user_id, user)
        else:
            if connections > 0:
                user.since = min(user.since, since)
            self._note(user_id, user)

    def _enter(self, user_id: str, user: _User) -> None:
        if len(self._listed) < self._most:
            user.is_listed = True
            self._listed[user_id] = user
            return
        if len(self._waiting) > 2 * len(self._users) + _SPARE:
            self._waiting = [(each.since, name) for name, each in self._users.items() if not each.is_listed]
            heapify(self._waiting)
        else:
            heappush(self._waiting, (user.since, user_id))

    def _leave(self, user_id: str, user: _User) -> None:
        if user.is_listed:
            del self._listed[user_id]
            self._note(user_id, None)

    def _note(self, user_id: str, user: _User | None) -> None:
        if self._told is not None and (user is None or user.is_listed):
            self._told.note(user_id, None if user is None else _shown(user_id, user))


class PresenceTopics(Generic[G]):
    """The topics of one shard. At most `most` users of each are listed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._topics: dict[str, TopicPresence[G]] = {}
        self._of_gateway: dict[G, dict[str, None]] = {}
        self._announced: dict[G, dict[str, set[str]]] = {}  # of gateways whose users are being announced or swept

    def get(self, topic_id: str) -> TopicPresence[G] | None:
        """Returns a topic, None where nobody is known to follow it."""
        return self._topics.get(topic_id)

    def all(self) -> list[tuple[str, TopicPresence[G]]]:
        """Returns all topics."""
        return list(self._topics.items())

    def open(self, topic_id: str, epoch: int) -> TopicPresence[G]:
        """Returns a topic of this epoch; one of an older epoch is forgotten."""
        topic = self._topics.get(topic_id)
        if topic is None or topic.epoch < epoch:
            topic = self._topics[topic_id] = TopicPresence(epoch, self._most)
        return topic

    def refresh(self, topic_id: str) -> None:
        """Fills the free places of a topic, and forgets one without users."""
        topic = self._topics.get(topic_id)
        if topic is not None and topic.count == 0:
            del self._topics[topic_id]
        elif topic is not None:
            topic.fill()

    def take(self, gateway: G, users: TopicUsers) -> TopicPresence[G] | None:
        """Takes what a gateway says about the users of one topic; None, and nothing, for an epoch that is over."""
        topic = self.open(users.topic_id, users.epoch)
        if topic.epoch != users.epoch:
            return None
        if users.whole:
            for user_id in topic.users_on(gateway):
                topic.remove(gateway, user_id)
        announced = self._announced.get(gateway)
        if announced is not None:
            announced.setdefault(users.topic_id, set()).update(user.user_id for user in users.users)
        for user in users.users:
            topic.set(gateway, user)
        if topic.hosted_by(gateway):
            self._of_gateway.setdefault(gateway, {})[users.topic_id] = None
        else:
            self._forget(gateway, users.topic_id)
        return topic

    def begin(self, gateway: G) -> None:
        """From now on a gateway announces all of its users."""
        self._announced[gateway] = {}

    def end(self, gateway: G) -> Iterator[str]:
        """A gateway has announced all of its users since `begin`: forgets the others, slice by slice.

        Yields the topic that a slice has looked at. It stops when another `begin` comes.
        """
        announced = self._announced.setdefault(gateway, {})
        for topic_id in list(self._of_gateway.get(gateway, ())):
            for _ in self._sweep(gateway, topic_id, announced):
                yield topic_id
                if self._announced.get(gateway) is not announced:
                    return
        del self._announced[gateway]

    def _sweep(self, gateway: G, topic_id: str, announced: dict[str, set[str]]) -> Iterator[None]:
        """Forgets a gateway's users of one topic who were not announced; yields after each slice, the last one too."""
        topic = self._topics.get(topic_id)
        users = [] if topic is None else topic.users_on(gateway)
        for at in range(0, len(users), SWEPT):
            named = announced.get(topic_id, frozenset[str]())
            for user_id in users[at : at + SWEPT]:
                if topic is not None and user_id not in named:
                    topic.remove(gateway, user_id)
            yield
        if topic is None or not topic.hosted_by(gateway):
            self._forget(gateway, topic_id)

    def _forget(self, gateway: G, topic_id: str) -> None:
        topics = self._of_gateway.get(gateway)
        if topics is not None:
            topics.pop(topic_id, None)
            if not topics:
                del self._of_gateway[gateway]


def _shown(user_id: str, user: _User) -> UserPresence:
    return UserPresence(user_id, user.connections, user.since, user.online <= 0)
