"""What a gateway's clients see of each other: presence, typing and what was read; and what is new in their inboxes."""

from collections.abc import Callable, Mapping
from typing import Final

from headgate.core.fanout.connections import Connections
from headgate.core.fanout.gateway_presence import Presence
from headgate.core.fanout.inbox_frames import InboxFrames
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.read_frames import ReadFrames
from headgate.core.fanout.read_reports import ReadReports
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.side_frames import SideFrames
from headgate.core.fanout.typing_frames import TypingFrames
from headgate.core.wire.link import Message
from headgate.core.wire.link_inbox import ReadReceipt, UserHints, UserRead
from headgate.core.wire.link_presence import PresenceMoved, PresenceState, Typed

_EVERY_S: Final = 1.0  # how often read marks without an `id` go to their owners


class Audience:
    """One for a gateway; `feeds` are the topics followed here.

    `schedule` asks the shell for a call of `flush`, `want` for one of `announce`.
    """

    def __init__(
        self,
        feeds: Mapping[str, TopicFeed],
        upstream: Upstream,
        connections: Connections,
        schedule: Callable[[], None],
        want: Callable[[], None],
    ) -> None:
        self._side = SideFrames(schedule)
        self.presence = Presence(feeds, upstream, want, self._side)
        self.typing = TypingFrames(feeds, upstream, self._side)
        self.reads = ReadReports(upstream, connections.shard_of, schedule)
        self._read_frames = ReadFrames(feeds, connections, self.reads, self._side)
        self._inbox = InboxFrames(connections, schedule)
        self._looked_at = float("-inf")

    def receive(self, message: Message) -> None:
        """Takes what an owner tells; what is about something else is left alone."""
        if isinstance(message, PresenceState | PresenceMoved):
            self.presence.receive(message)
        elif isinstance(message, Typed):
            self.typing.receive(message)
        elif isinstance(message, UserHints):
            self._inbox.receive(message)
        elif isinstance(message, ReadReceipt | UserRead):
            self._read_frames.receive(message)

    def flush(self, now: float) -> None:
        """Writes some of what waits for the clients, and sends what is urgent to the owners."""
        self._side.write()
        self._inbox.write(now)
        self.reads.announce()

    def tick(self, now: float) -> None:
        """Does what is due; called every quarter second."""
        self.presence.tick(now)
        self._inbox.tick(now)
        if now - self._looked_at >= _EVERY_S:
            self._looked_at = now
            self.reads.look()

    def end(self, subscription: Subscription) -> None:
        """A subscription has ended."""
        self.presence.end(subscription)
        self.reads.end(subscription)

    def drop(self, session: Session) -> None:
        """A session has ended, after its subscriptions."""
        self.presence.drop(session)
        self._inbox.drop(session)
