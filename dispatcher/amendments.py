"""Tells the gateways that host a topic how a message is now, before they get the event that changed it."""

from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from dispatcher.history import History
from headgate.core.sequencer.effects import MessageChanged
from headgate.core.sequencer.routes import Routes
from headgate.core.wire.amended_frames import amend, targets_of
from headgate.core.wire.link import Message, Messages
from headgate.core.wire.link_messages import Amended
from headgate.core.wire.message_changes import RedactMessage

AMENDMENTS: Final = 2  # the version of a link from which on a gateway knows them


class AmendedHost(Protocol):
    """A gateway as an amendment needs it."""

    @property
    def version(self) -> int:
        """The version of its link."""

    @property
    def congested(self) -> bool:
        """Whether its link has more queued than it should."""

    def send(self, message: Message) -> None:
        """Queues a message."""


H = TypeVar("H", bound=AmendedHost)


class _Target(NamedTuple):
    topic_id: str
    epoch: int
    seq: int


class Amendments(Generic[H]):
    """The messages of one shard that were changed since the open batches were last sent.

    Many changes of one message make one amendment; a topic that nobody hosts costs nothing.
    """

    def __init__(self, routes: Routes[H], history: History) -> None:
        self._routes = routes
        self._history = history
        self._targets: dict[_Target, bool] = {}  # whether it was redacted

    def add(self, changed: MessageChanged) -> None:
        """Takes a change; the history has its event already."""
        event, change = changed
        if self._routes.count(event.topic_id):
            target = _Target(event.topic_id, event.epoch, change.target_seq)
            self._targets[target] = self._targets.get(target, False) or isinstance(change, RedactMessage)

    def send(self) -> None:
        """Amends what waits in the open batches, and tells the gateways; to be called before the batches are sent."""
        if not self._targets:
            return
        targets, self._targets = self._targets, {}
        for target, redacted in targets.items():
            self._send(Amended(*target, self._frame(target), redacted))

    def before_page(self, gateway: H, page: Messages, sent: int) -> None:
        """Tells a gateway what the events of a page changed in the messages up to `sent`, which it was sent before.

        It may have missed their amendments with the owner before this one.
        """
        if gateway.version >= AMENDMENTS:
            for seq, redacted in targets_of(page.frames).items():
                if seq <= sent:
                    gateway.send(Amended(page.topic_id, page.epoch, seq, b"", redacted))

    def _frame(self, target: _Target) -> bytes:
        """Returns the message as it is now, b"" where its parts are not at hand."""
        kept = self._history.get(target.epoch, target.seq)
        now = None if kept is None else self._history.fold(target.epoch, target.seq, target.seq).now(kept)
        return now if isinstance(now, bytes) else b""

    def _send(self, amended: Amended) -> None:
        small = Amended(amended.topic_id, amended.epoch, amended.seq, b"", amended.redacted)
        for route in self._routes.hosts(amended.topic_id):
            batch = route.open
            if batch is not None and (amended.frame or amended.redacted):
                amend(batch.frames, batch.seq, amended.seq, amended.frame, redacted=amended.redacted)
            if route.gateway.version < AMENDMENTS:
                continue  # an older one gives old frames from its ring until they left it
            if not route.gateway.congested:
                route.gateway.send(amended)
            elif amended.redacted:  # of other changes the link's queue would have no bound; `before_page` tells them
                route.gateway.send(small)
