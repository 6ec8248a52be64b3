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

CONNECTIONS: Final = 1_000  # of one user that are listed
SUBSCRIPTIONS: Final = 10_000  # of one user that are listed
UserMessage = AttachUsers | UsersChanged | EndSubscriptions | AskConnections


class UserRoutes:
    """The routes of one shard: how many connections each user has on each gateway."""

    def __init__(self, questions: UserQuestions, announcements: Announcements[Destination]) -> None:
        self.announcements = announcements
        self._questions = questions
        self._users: dict[Destination, dict[str, int]] = {}  # a gateway that leaves costs one step

    def handle(self, peer: Destination, message: UserMessage) -> None:
        """Takes one message, answers it now or later. It never raises: a refusal is an answer too."""
        if peer.open:
            answer_with(self._take, peer, message)

    def left(self, peer: Destination) -> None:
        """A link was closed: its users are not there any longer."""
        self._users.pop(peer, None)
        self.announcements.left(peer)

    def close(self) -> None:
        """The shard is no longer served here."""
        self.announcements.close()

    def connections(self, user_id: str) -> int:
        """Returns how many connections a user has on all gateways."""
        return sum(users.get(user_id, 0) for users in self._users.values())

    @property
    def connected(self) -> int:
        """How many users are connected, one on two gateways counted twice."""
        return sum(map(len, self._users.values()))

    def users(self) -> list[str]:
        """Returns the connected users, one on two gateways twice."""
        return [user_id for users in self._users.values() for user_id in users]

    def is_connected(self, user_id: str) -> bool:
        """Returns whether a user is connected anywhere."""
        return any(user_id in users for users in self._users.values())

    def gateways_of(self, user_id: str) -> list[Destination]:
        """Returns the gateways where a user is connected."""
        return [gateway for gateway, users in self._users.items() if user_id in users]

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
            self._users.pop(peer, None)
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
            else:
                users.pop(route.user_id, None)
            if route.connections > before:
                others = self.connections(route.user_id) - route.connections
                if others:
                    elsewhere.append(UserRoute(route.user_id, others))
        if elsewhere:
            peer.send(UsersElsewhere(elsewhere))

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
