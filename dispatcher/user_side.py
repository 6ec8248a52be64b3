"""All that is asked and told about the users of one shard that is served here, apart from its topics."""

from dispatcher.announcements import Announcements
from dispatcher.cursor_requests import CursorMessage, CursorRequests
from dispatcher.inbox_hints import InboxHints
from dispatcher.inbox_requests import InboxMessage, InboxRequests
from dispatcher.ports import DispatcherMetrics
from dispatcher.shard import Destination, ShardOwner
from dispatcher.user_questions import UserQuestions
from dispatcher.user_routes import UserMessage, UserRoutes
from headgate.runtime.ports import Shell

UserSideMessage = UserMessage | CursorMessage | InboxMessage


class UserSide:
    """The users of one shard: their routes, cursors and inboxes."""

    def __init__(
        self,
        owner: ShardOwner,
        questions: UserQuestions,
        announcements: Announcements[Destination],
        shell: Shell[DispatcherMetrics],
    ) -> None:
        """`announcements` are those of the gateways' users, `questions` those of the node."""
        self.announcements = announcements
        self._routes = UserRoutes(questions, announcements)
        self._cursors = CursorRequests(owner, questions, announcements)
        self._inbox = InboxRequests(owner)
        self._hints = InboxHints(owner.inbox.users, self._routes, shell)
        owner.inbox.listen(self._hints.changed)

    def handle(self, peer: Destination, message: UserSideMessage) -> None:
        """Takes one message, answers it now or later. It never raises: a refusal is an answer too."""
        if isinstance(message, CursorMessage):
            self._cursors.handle(peer, message)
        elif isinstance(message, InboxMessage):
            self._inbox.handle(peer, message)
        else:
            self._routes.handle(peer, message)

    def left(self, peer: Destination) -> None:
        """A link was closed: its users are not there any longer."""
        self._routes.left(peer)
        self._cursors.left(peer)

    def close(self) -> None:
        """The shard is no longer served here."""
        self._routes.close()
        self._inbox.close()
        self._hints.close()
