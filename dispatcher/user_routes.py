"""Where the users of one shard are connected, as gateways announce it, and the questions about them.

This state is soft: a new owner knows nothing and is told by every gateway. Until then questions wait.
"""

from collections.abc import Callable
from typing import Final

from dispatcher.announcements import Announcements
from dispatcher.answering import answer_with
from dispatcher.shard import Destination
from dispatcher.user_questions import Done, UserAnswer, UserQuestion, UserQuestions
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_users import (
    AskConnections,
    AttachUsers,
    Connection,
    ConnectionsAnswer,
    EndSubscriptions,
    SubscriptionsEnded,
    UserRoute,
    UsersChanged,
    UsersElsewhere,
)
from headgate.core.wire.rights import ANYBODY

CONNECTIONS: Final = 1_000  # of one user that are listed
SUBSCRIPTIONS: Final = 10_000  # of one user that are listed
UserMessage = AttachUsers | UsersChanged | EndSubscriptions | AskConnections


class UserRoutes:
    """The routes of one shard: how many connections each user has on each gateway."""

    def __init__(self, questions: UserQuestions, announcements: Announcements[Destination]) -> None:
        self.announcements = announcements
        self._questions = questions
        self._users: dict[Destination, dict[str, int]] = {}  # their connections there
        self._gateways: dict[str, tuple[Destination, ...]] = {}  # of a user: asked for with each hint

    def handle(self, peer: Destination, message: UserMessage) -> None:
        """Takes one message, answers it now or later. It never raises: a refusal is an answer too."""
        if peer.open:
            answer_with(self._take, peer, message)

    def left(self, peer: Destination) -> None:
        """A link was closed: its users are not there any longer."""
        self._forget(peer)
        self.announcements.left(peer)

    def close(self) -> None:
        """The shard is no longer served here."""
        self.announcements.close()

    def connections(self, user_id: str) -> int:
        """Returns how many connections a user has on all gateways."""
        return sum(self._users[gateway][user_id] for gateway in self._gateways.get(user_id, ()))

    @property
    def connected(self) -> int:
        """How many users are connected."""
        return len(self._gateways)

    @property
    def has_named(self) -> bool:
        """Whether a user who gave his name is connected."""
        return len(self._gateways) > (ANYBODY in self._gateways)

    def users(self) -> list[str]:
        """Returns the connected users."""
        return list(self._gateways)

    def is_connected(self, user_id: str) -> bool:
        """Returns whether a user is connected anywhere."""
        return user_id in self._gateways

    def gateways_of(self, user_id: str) -> tuple[Destination, ...]:
        """Returns the gateways where a user is connected."""
        return self._gateways.get(user_id, ())

    def _take(self, peer: Destination, message: UserMessage) -> None:
        if isinstance(message, AttachUsers):
            self._attach(peer, message)
        elif isinstance(message, UsersChanged):
            self._set(peer, message.users)
        elif not self.announcements.complete:
            if not self.announcements.hold(lambda: self.handle(peer, message), 0):
                raise Refusal("not_ready", "the gateways have not announced their users yet", retry_after_ms=1_000)
        elif isinstance(message, EndSubscriptions):
            self._end(peer, message)
        else:
            self._list(peer, message)

    # -- what gateways announce

    def _attach(self, peer: Destination, attach: AttachUsers) -> None:
        if attach.first:
            self._forget(peer)
        self._set(peer, attach.users)
        if attach.last:
            self.announcements.heard(peer)

    def _set(self, peer: Destination, routes: list[UserRoute]) -> None:
        """Takes the counts of a gateway, and answers those that rose with what the users have elsewhere."""
        users = self._users.setdefault(peer, {})
        elsewhere = []
        for route in routes:
            before = users.get(route.user_id, 0)
            if route.connections > 0:
                users[route.user_id] = route.connections
                if not before:
                    self._gateways[route.user_id] = (*self._gateways.get(route.user_id, ()), peer)
            elif users.pop(route.user_id, 0):
                self._left(route.user_id, peer)
            if route.connections > before:
                others = self.connections(route.user_id) - route.connections
                if others:
                    elsewhere.append(UserRoute(route.user_id, others))
        if elsewhere:
            peer.send(UsersElsewhere(elsewhere))

    def _forget(self, peer: Destination) -> None:
        for user_id in self._users.pop(peer, ()):
            self._left(user_id, peer)

    def _left(self, user_id: str, peer: Destination) -> None:
        others = tuple(gateway for gateway in self._gateways[user_id] if gateway is not peer)
        if others:
            self._gateways[user_id] = others
        else:
            del self._gateways[user_id]

    # -- questions

    def _end(self, peer: Destination, ask: EndSubscriptions) -> None:
        def done(answers: list[UserAnswer], complete: bool) -> None:
            peer.send(SubscriptionsEnded(ask.req, sum(a.count for a in answers if isinstance(a, SubscriptionsEnded))))

        self._ask(ask.user_id, lambda req: EndSubscriptions(req, ask.user_id, ask.topic_id, ask.connection_id), done)

    def _list(self, peer: Destination, ask: AskConnections) -> None:
        def done(answers: list[UserAnswer], complete: bool) -> None:
            pages = [answer for answer in answers if isinstance(answer, ConnectionsAnswer)]
            connections, whole = _merged(pages)
            peer.send(ConnectionsAnswer(ask.req, connections, complete and whole))

        self._ask(ask.user_id, lambda req: AskConnections(req, ask.user_id), done)

    def _ask(self, user_id: str, build: Callable[[int], UserQuestion], done: Done) -> None:
        self._questions.ask(self.gateways_of(user_id), build, done)


def _merged(pages: list[ConnectionsAnswer]) -> tuple[list[Connection], bool]:
    """Returns the connections of all gateways, the oldest first, and whether these are all."""
    found = sorted((each for page in pages for each in page.connections), key=lambda each: each.connected_at)
    topics = 0
    for at, connection in enumerate(found):
        topics += len(connection.subscriptions)
        if at == CONNECTIONS or topics > SUBSCRIPTIONS:
            return found[:at], False
    return found, all(page.complete for page in pages)
