"""What a gateway's clients see of each other: presence and typing, and the frames of both."""

from collections.abc import Callable, Mapping

from headgate.core.fanout.gateway_presence import Presence
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import TopicFeed
from headgate.core.fanout.side_frames import SideFrames
from headgate.core.fanout.typing_frames import TypingFrames
from headgate.core.wire.link import Message
from headgate.core.wire.link_presence import PresenceMoved, PresenceState, Typed


class Audience:
    """One for a gateway; `feeds` are the topics followed here.

    `schedule` asks the shell for a call of `flush`, `want` for one of `announce`.
    """

    def __init__(
        self,
        feeds: Mapping[str, TopicFeed],
        upstream: Upstream,
        schedule: Callable[[], None],
        want: Callable[[], None],
    ) -> None:
        self._side = SideFrames(schedule)
        self.presence = Presence(feeds, upstream, want, self._side)
        self.typing = TypingFrames(feeds, upstream, self._side)

    def receive(self, message: Message) -> None:
        """Takes what an owner tells; what is about something else is left alone."""
        if isinstance(message, PresenceState | PresenceMoved):
            self.presence.receive(message)
        elif isinstance(message, Typed):
            self.typing.receive(message)

    def flush(self) -> None:
        """Writes some of what waits for the clients."""
        self._side.write()
