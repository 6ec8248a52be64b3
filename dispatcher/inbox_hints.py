"""Tells connected users of a shard what is new in their inboxes: new messages, and what they have read elsewhere.

A hint is soft: what does not fit is left out, and the next message makes another. For a topic that moved the members
here or the connected users of the shard are looked at, who are fewer, in steps; a user gets at most one hint a second.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import Final

from dispatcher.ports import DispatcherMetrics
from dispatcher.shard import Destination
from dispatcher.sliced_work import SlicedWork
from dispatcher.user_routes import UserRoutes
from headgate.core.inbox.inbox_pages import SLICE_TOPICS, Steps, count_of
from headgate.core.inbox.pending_hints import PendingHints
from headgate.core.inbox.users import InboxChanges, UserTopics
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_inbox import HintTopic, UserHint, UserHints, UserRead
from headgate.core.wire.rights import ANYBODY
from headgate.runtime.ports import Shell

TICK_S: Final = 0.1
JITTER_S: Final = 1.0  # over which the first hints to the members of a topic are spread
MAX_MOVED: Final = 100_000  # topics that moved in a tick; further ones are not told of
SLICE_USERS: Final = 1_000  # looked at in a step: about 2 ms
KNOWS_HINTS: Final = 2  # the link version


class InboxHints:
    """The hints of one shard. It is told what records changed, and works in ticks while there is something to tell."""

    def __init__(self, users: UserTopics, routes: UserRoutes, shell: Shell[DispatcherMetrics]) -> None:
        self._users = users
        self._routes = routes
        self._shell = shell
        self._moved: dict[str, None] = {}
        self._pending = PendingHints()
        self._work = SlicedWork()
        self._timer: asyncio.TimerHandle | None = None
        self._is_working = False
        self._closed = False

    def changed(self, changes: InboxChanges) -> None:
        """Takes what a record has changed."""
        for user_id, topic_id in changes.read:
            self._tell_read(user_id, topic_id)
        if self._routes.has_named:
            for topic_id in changes.moved[: MAX_MOVED - len(self._moved)]:
                self._moved[topic_id] = None
            self._wait()

    def close(self) -> None:
        """The shard is no longer served here."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._work.close(Refusal("not_ready", "the shard was given up"))

    # -- ticks

    def _wait(self) -> None:
        """Works in a moment, where there is anything to do."""
        if self._timer is None and not (self._is_working or self._closed) and (self._moved or self._pending):
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._is_working = True
        self._work.begin(self._steps(), self._done, self._done)

    def _done(self, _end: Refusal | None) -> None:
        self._is_working = False
        self._wait()

    def _steps(self) -> Steps[None]:
        moved, self._moved = self._moved, {}
        yield from self._find(moved)
        yield from self._send()

    def _find(self, moved: Collection[str]) -> Iterator[None]:
        """Notes who is to be told of the topics that moved."""
        looked = 0
        for topic_id in moved:
            users, is_told = self._smaller(topic_id)
            for at in range(0, len(users), SLICE_USERS):
                some = users[at : at + SLICE_USERS]
                for user_id in filter(is_told, some):
                    self._note(user_id, topic_id)
                looked += len(some)
                if looked >= SLICE_USERS:
                    looked = 0
                    yield

    def _smaller(self, topic_id: str) -> tuple[list[str], Callable[[str], bool]]:
        """Returns the members of a topic or the connected users, who are fewer, and which of them are both."""
        members = self._users.memberships.members.of(topic_id)
        if len(members) <= self._routes.connected:
            return list(members), self._routes.is_connected
        return self._routes.users(), members.__contains__

    def _note(self, user_id: str, topic_id: str) -> None:
        if user_id != ANYBODY:  # gateways tell those who gave no name nothing
            at_s = self._shell.clock.now() + self._shell.rng.random() * JITTER_S
            self._pending.add(user_id, topic_id, at_s)

    # -- hints

    def _send(self) -> Iterator[None]:
        hints: dict[Destination, list[UserHint]] = {}
        topics = 0
        while (taken := self._pending.take(self._shell.clock.now())) is not None:
            user_id, moved = taken
            hint = UserHint(user_id, self._news(user_id, moved))
            for gateway in self._gateways_of(user_id) if hint.topics else ():
                hints.setdefault(gateway, []).append(hint)
            topics += len(moved)
            if topics >= SLICE_TOPICS:
                self._hand_over(hints)
                hints, topics = {}, 0
                yield
        self._hand_over(hints)

    def _news(self, user_id: str, moved: list[str]) -> list[HintTopic]:
        """Returns topics with something unread, as they are now: he may have read it, or left, since."""
        news = []
        for topic_id in moved:
            topic = self._users.membership(user_id, topic_id)
            if topic is not None:
                count = count_of(self._users, user_id, topic_id, topic)
                if count.unread:
                    news.append(HintTopic(topic_id, count.head_seq, count.unread))
        return news

    def _hand_over(self, hints: dict[Destination, list[UserHint]]) -> None:
        for gateway, users in hints.items():
            gateway.send(UserHints(users))
            self._shell.metrics.inbox_hints(len(users))

    def _tell_read(self, user_id: str, topic_id: str) -> None:
        gateways = self._gateways_of(user_id)
        topic = self._users.membership(user_id, topic_id) if gateways else None
        if topic is not None:
            count = count_of(self._users, user_id, topic_id, topic)
            for gateway in gateways:
                gateway.send(UserRead(user_id, topic_id, count.read_seq, count.unread))

    def _gateways_of(self, user_id: str) -> list[Destination]:
        """Returns the gateways where a user is that can be told of hints; a full link gets none."""
        found = self._routes.gateways_of(user_id)
        return [gateway for gateway in found if gateway.version >= KNOWS_HINTS and not gateway.congested]
