"""The owners' side of acknowledged subscriptions in memory: cursors, leases and dead letters."""

from collections.abc import Callable

from headgate.core.wire import link, link_acks, link_dead_letters
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_acks import Cursor, CursorLease
from headgate.core.wire.link_dead_letters import Receiver

Key = tuple[str, str, str]  # user, device, topic


class CursorsTwin:
    """Everything happens at once. `away`: requests are refused; `joined` are memberships by (user, topic)."""

    def __init__(self, push: Callable[[link.Message], None]) -> None:
        self._push = push
        self.cursors: dict[Key, Cursor] = {}
        self.leases: dict[Key, CursorLease] = {}
        self.joined: dict[tuple[str, str], tuple[int, int]] = {}
        self.moves: list[link_acks.MoveCursors] = []
        self.replaced: list[link_acks.SubscriptionReplaced] = []
        self.attached: list[link_acks.AttachCursors] = []
        self.letters: list[link_dead_letters.GiveUp] = []
        self.wanted: list[link_dead_letters.WantReplays] = []
        self.done: list[str] = []
        self.away = False
        self.refused_letters = 0  # questions for dead letters while away

    def ask(self, request: link.Request) -> link.Answer:
        if self.away:
            self.refused_letters += isinstance(request, link_dead_letters.GiveUp)
            raise Refusal("not_ready", "away")
        if isinstance(request, link_acks.OpenCursor):
            return self._open(request)
        if isinstance(request, link_acks.MoveCursors):
            self.moves.append(request)
            for cursor in request.cursors:
                self._merge(cursor)
            return link_acks.CursorsMoved(request.req)
        assert isinstance(request, link_dead_letters.GiveUp)
        self.letters.append(request)
        return link_dead_letters.GivenUp(request.req)

    def take(self, message: link.Message) -> bool:
        """Takes a message without an answer; false where it is about something else."""
        if isinstance(message, link_acks.ReleaseCursor):
            key = message.user_id, message.device_id, message.topic_id
            if key in self.leases and self.leases[key].connection_id == message.connection_id:
                del self.leases[key]
        elif isinstance(message, link_acks.AttachCursors):
            self.attached.append(message)
        elif isinstance(message, link_acks.SubscriptionReplaced):
            self.replaced.append(message)
        elif isinstance(message, link_dead_letters.WantReplays):
            self.wanted.append(message)
        elif isinstance(message, link_dead_letters.LetterDone):
            self.done.append(message.id)
        else:
            return False
        return True

    def seq(self, user: str, topic: str, device: str = "default") -> int | None:
        """Returns where the stored cursor is."""
        cursor = self.cursors.get((user, device, topic))
        return None if cursor is None else cursor.seq

    def redeliver(self, topic_id: str, epoch: int, seq: int, user: str, letter_id: str, frame: bytes) -> None:
        """Replays a dead letter."""
        self._push(link_dead_letters.Redeliver(topic_id, epoch, seq, Receiver(user, "default"), letter_id, frame))

    def _open(self, ask: link_acks.OpenCursor) -> link_acks.CursorAnswer:
        key = ask.user_id, ask.device_id, ask.topic_id
        if ask.lease is not None:
            older = self.leases.get(key)
            if older is not None and older != ask.lease:
                self._push(link_acks.ReplaceSubscription(9, older))
                if self.replaced and self.replaced[-1].cursor is not None:
                    self._merge(self.replaced[-1].cursor)
            self.leases[key] = ask.lease
        epoch, seq = self.joined.get((ask.user_id, ask.topic_id), (0, 0))
        return link_acks.CursorAnswer(ask.req, self.cursors.get(key), epoch, seq)

    def _merge(self, cursor: Cursor) -> None:
        key = cursor.user_id, cursor.device_id, cursor.topic_id
        known = self.cursors.get(key)
        if known is None or (cursor.epoch, cursor.seq) >= (known.epoch, known.seq):
            self.cursors[key] = cursor
