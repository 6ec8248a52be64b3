"""Who follows a topic on this gateway, and the announcements of it to the topic's owner (`link_presence`).

A subscribe costs two dictionary entries and its share of a batch; `AnnouncementPace` says when a batch is told.
"""

from collections.abc import Callable, Iterator
from typing import Final

from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import Subscription, TopicFeed
from headgate.core.wire.link_presence import AttachPresence, PresenceChanged, TopicUsers, UserPresence

CHUNK: Final = 1_000  # users and topics of one message: about 50 KB on the link
FEW: Final = 100  # users here of a topic whose changes are told before its next subscribe, not up to 2 ms later
CHUNKS: Final = 2  # of one shard or topic and `announce`, where all have to be told: a few milliseconds


class _LocalUser:
    """`since` is Unix milliseconds."""

    __slots__ = ("away", "connections", "since")

    def __init__(self, since: int) -> None:
        self.connections = 0
        self.away = 0
        self.since = since

    @property
    def is_away(self) -> bool:
        """Whether all connections are away."""
        return self.away >= self.connections


class LocalUsers:
    """The users of one gateway by feed; only topics whose presence is on are here.

    `want` asks for a call of `announce`; `watches` says whether the owner has to tell what changes in a
    topic.
    """

    def __init__(self, upstream: Upstream, want: Callable[[], None], watches: Callable[[str], bool]) -> None:
        self._upstream = upstream
        self._want = want
        self._watches = watches
        self._feeds: dict[TopicFeed, dict[str, _LocalUser]] = {}
        self._changed: dict[TopicFeed, dict[str, None]] = {}
        self._news: set[TopicFeed] = set()  # of these, where somebody came, went or turned: not only connected again
        self._telling_all: dict[int | TopicFeed, Iterator[AttachPresence | PresenceChanged]] = {}

    def __contains__(self, feed: TopicFeed) -> bool:
        return feed in self._feeds

    def join(self, subscription: Subscription, *, away: bool) -> None:
        """A subscription has begun."""
        self._change(subscription, 1, int(away))

    def leave(self, subscription: Subscription, *, away: bool) -> None:
        """A subscription has ended."""
        if subscription.feed in self._feeds:
            self._change(subscription, -1, -int(away))

    def turn(self, subscription: Subscription, *, away: bool) -> None:
        """The connection of a subscription is now away, or online again."""
        if subscription.feed in self._feeds:
            self._change(subscription, 0, 1 if away else -1)

    def begin(self, feed: TopicFeed, away: Callable[[Subscription], bool]) -> None:
        """The presence of a topic is on from now on: announces all who follow it here."""
        self._feeds[feed] = {}
        for subscription in feed.subscriptions():
            self.join(subscription, away=away(subscription))
        self._forget(feed)
        self._telling_all[feed] = self._whole(feed)
        self._want()

    def end(self, feed: TopicFeed) -> None:
        """The presence of a topic is off."""
        if self._feeds.pop(feed, None) is not None:
            self._forget(feed)
            self._send(feed.shard, [TopicUsers(feed.topic_id, feed.epoch, [], False, True)])

    def wake(self, feed: TopicFeed) -> None:
        """Has the owner of a topic look at it again: its settings, or who watches it, have changed."""
        self._send(feed.shard, [self._told(feed, [])])

    def attach(self, shard: int) -> None:
        """Tells a new owner of a shard all, some chunks at each `announce`."""
        self._telling_all[shard] = self._chunks(shard)
        self._want()

    def announce(self) -> None:
        """Tells what has changed since the last call."""
        self.announce_changes()
        for key, chunks in list(self._telling_all.items()):
            for _ in range(CHUNKS):
                chunk = next(chunks, None)
                if chunk is None:
                    del self._telling_all[key]
                    break
                self._upstream.send(chunk.shard, chunk)
        if self._telling_all:
            self._want()

    def announce_changes(self) -> None:
        """Tells what has changed, before the end of the turn."""
        changed, self._changed = self._changed, {}
        self._news.clear()
        shards: dict[int, list[TopicUsers]] = {}
        for feed, users in changed.items():
            names = list(users)
            for at in range(0, len(names), CHUNK):
                shards.setdefault(feed.shard, []).append(self._told(feed, names[at : at + CHUNK], changed=True))
            if not self._feeds[feed]:
                del self._feeds[feed]
        for shard, topics in shards.items():
            self._send(shard, topics)

    def announce_small(self, feed: TopicFeed) -> None:
        """Tells who came, went or turned in a topic of few users, whose next subscribe must not overtake it.

        In a crowd nobody can say who came first, and a message for each would cost a fifth of a connect.
        """
        if feed in self._news and len(self._feeds[feed]) <= FEW:
            self.announce_changes()

    def _change(self, subscription: Subscription, connections: int, away: int) -> None:
        feed, caller = subscription.feed, subscription.session.caller
        assert caller is not None, "only a known caller follows a topic"
        users = self._feeds.get(feed)
        if users is None:
            users = self._feeds[feed] = {}
        user = users.get(caller.user_id)
        is_new = user is None
        if user is None:
            user = users[caller.user_id] = _LocalUser(subscription.begun_ms)
        was_away = user.is_away
        user.connections += connections
        user.away += away
        if user.connections <= 0:
            del users[caller.user_id]
        if is_new or user.connections <= 0 or user.is_away != was_away:
            self._news.add(feed)
        changed = self._changed.get(feed)
        if changed is None:
            changed = self._changed[feed] = {}
        changed[caller.user_id] = None
        self._want()

    def _forget(self, feed: TopicFeed) -> None:
        """What has changed in it is not told: all of it is, or nobody is there."""
        self._changed.pop(feed, None)
        self._news.discard(feed)

    def _send(self, shard: int, topics: list[TopicUsers]) -> None:
        """Sends announcements in messages of bounded size; each of `topics` has at most CHUNK users."""
        part: list[TopicUsers] = []
        size = 0
        for topic in topics:
            part.append(topic)
            size += 1 + len(topic.users)
            if size >= CHUNK:
                self._upstream.send(shard, PresenceChanged(shard, part))
                part, size = [], 0
        if part:
            self._upstream.send(shard, PresenceChanged(shard, part))

    def _whole(self, feed: TopicFeed) -> Iterator[PresenceChanged]:
        """Yields all users of one topic, each chunk as it is when it is sent."""
        users = list(self._feeds.get(feed, ()))
        for at in range(0, max(len(users), 1), CHUNK):
            if feed in self._feeds:
                yield PresenceChanged(feed.shard, [self._told(feed, users[at : at + CHUNK], whole=at == 0)])

    def _chunks(self, shard: int) -> Iterator[AttachPresence]:
        """Yields all messages of an attach. Each is made when it is sent, so that none is older than a change.

        A topic is in them also where its first user was announced in front of the first of them: the owner forgets
        who is not.
        """
        part: list[TopicUsers] = []
        size, first = 0, True
        for feed in [feed for feed in self._feeds if feed.shard == shard]:
            names = list(self._feeds.get(feed, ()))
            for at in range(0, len(names), CHUNK):
                if feed not in self._feeds:
                    break
                part.append(self._told(feed, names[at : at + CHUNK]))
                size += 1 + len(part[-1].users)
                if size >= CHUNK:
                    yield AttachPresence(shard, first, False, part)
                    part, size, first = [], 0, False
        yield AttachPresence(shard, first, True, part)

    def _told(self, feed: TopicFeed, names: list[str], *, changed: bool = False, whole: bool = False) -> TopicUsers:
        """Returns what is so now; users who have gone are left out, unless they have `changed`."""
        users = self._feeds.get(feed, {})
        told = []
        for name in names:
            user = users.get(name)
            if user is not None:
                told.append(UserPresence(name, user.connections, user.since, user.is_away))
            elif changed:
                told.append(UserPresence(name, 0, 0))
        watch = not changed and self._watches(feed.topic_id)
        return TopicUsers(feed.topic_id, feed.epoch, told, watch, whole)
