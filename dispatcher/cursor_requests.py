"""Requests about the cursors of a shard's users, and which subscription acknowledges for a device.

A gateway tells a new owner its leases before its users (`AttachUsers`): once all have told those, the leases are known.
One that comes later all the same loses against a newer one, or ends an older one.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from dispatcher.announcements import Announcements
from dispatcher.answering import answer_with, refuse
from dispatcher.inbox_writer import Stored
from dispatcher.shard import Destination, ShardOwner
from dispatcher.user_questions import UserAnswer, UserQuestions
from headgate.core.inbox.cursors import SHARE, DeviceCursor, merged
from headgate.core.inbox.leases import key_of
from headgate.core.wire.errors import CorruptRecord, Refusal
from headgate.core.wire.inbox_record import encode_cursor
from headgate.core.wire.link_acks import (
    MAX_CURSORS,
    AttachCursors,
    Cursor,
    CursorAnswer,
    CursorLease,
    CursorsMoved,
    MoveCursors,
    OpenCursor,
    ReleaseCursor,
    ReplaceSubscription,
    SubscriptionReplaced,
)
from headgate.core.wire.linkcodec import refused_with

RETRY_MS: Final = 1_000
NOBODY: Final = 0  # the `req` of a question whose answer nobody waits for
CursorMessage = OpenCursor | MoveCursors | AttachCursors | ReleaseCursor


class CursorRequests:
    """Answers them for one shard."""

    def __init__(self, owner: ShardOwner, questions: UserQuestions, announcements: Announcements[Destination]) -> None:
        """`announcements` are those of the gateways' users."""
        self._owner = owner
        self._questions = questions
        self._announcements = announcements
        # By the key of a lease: who waits for the end of the subscription before. It has the lease, or lost it again.
        self._takeovers: dict[str, tuple[Destination, OpenCursor, CursorLease]] = {}
        self._arriving: dict[str, DeviceCursor] = {}  # on their way to the log, by the key of a lease
        self._handlers: Mapping[type, Callable[..., None]] = {
            OpenCursor: self._open,
            MoveCursors: self._move,
            AttachCursors: self._attach,
            ReleaseCursor: self._release,
        }

    def handle(self, peer: Destination, message: CursorMessage) -> None:
        """Takes one message, answers it now or later. It never raises: a refusal is an answer too."""
        if not peer.open:
            return
        if self._owner.closed:
            refuse(peer, message, self._given_up())
        else:
            answer_with(self._handlers[type(message)], peer, message)

    def left(self, peer: Destination) -> None:
        """A link was closed: the subscriptions behind it acknowledge no longer."""
        self._owner.leases.forget(peer)

    # -- a cursor and its lease

    def _open(self, peer: Destination, ask: OpenCursor) -> None:
        again = partial(self.handle, peer, ask)
        if not self._owner.inbox.is_complete:
            if not self._owner.inbox.hold(again):
                raise Refusal("not_ready", "too many wait for this shard's inbox log", retry_after_ms=RETRY_MS)
        elif ask.lease is None:
            self._answer(peer, ask)
        elif not self._owner.inbox.users.cursors.has_room(ask.user_id, ask.device_id, ask.topic_id):
            raise _full()  # its cursor would never be stored, and what it refuses never sent again
        elif not self._owner.inbox.users.cursors.has_share(ask.user_id, ask.device_id, ask.topic_id):
            raise _share_used()
        elif self._announcements.complete:
            self._lease(peer, ask, ask.lease)
        elif not self._announcements.hold(again, 0):
            raise Refusal("not_ready", "the gateways have not announced their leases yet", retry_after_ms=RETRY_MS)

    def _lease(self, peer: Destination, ask: OpenCursor, lease: CursorLease) -> None:
        """Gives the lease to a subscription, once the one that had it has ended. Raises Refusal."""
        if (lease.user_id, lease.device_id, lease.topic_id) != (ask.user_id, ask.device_id, ask.topic_id):
            raise Refusal("bad_request", "the lease is of another cursor than the question")
        lost = self._owner.leases.take(peer, lease)
        if lost is not None and lost[1] is lease:
            raise _replaced()
        key = key_of(ask.user_id, ask.device_id, ask.topic_id)
        before = self._takeovers.get(key)
        if before is not None:  # it was never answered: nothing has to end but its wait
            self._takeovers[key] = peer, ask, lease
            refuse(before[0], before[1], _replaced())
        elif lost is None:
            self._answer(peer, ask)
        else:
            self._take_over(peer, ask, lease, *lost)

    def _take_over(
        self, peer: Destination, ask: OpenCursor, lease: CursorLease, holder: Destination, lost: CursorLease
    ) -> None:
        key, leases = key_of(ask.user_id, ask.device_id, ask.topic_id), self._owner.leases
        self._takeovers[key] = peer, ask, lease
        try:
            self._questions.ask([holder], lambda req: ReplaceSubscription(req, lost), partial(self._ended, key))
        except Refusal:
            del self._takeovers[key]
            leases.release(peer, key, lease.connection_id)
            leases.take(holder, lost)
            raise

    def _ended(self, key: str, answers: list[UserAnswer], complete: bool) -> None:
        """The subscription before has ended, or did not answer in time; its cursor is stored and told to the next."""
        peer, ask, lease = self._takeovers.pop(key)
        found = next((answer.cursor for answer in answers if isinstance(answer, SubscriptionReplaced)), None)
        if self._owner.closed:
            refuse(peer, ask, self._given_up())
            return
        entry = _entry_of(ask, found)
        arriving = {} if found is None or entry is None else self._arrive([found])
        if self._owner.leases.has(peer, lease):
            self._answer(peer, ask)
        elif peer.open:
            refuse(peer, ask, _replaced())
        if entry is not None:  # its gateway writes it too, if it can
            with suppress(Refusal):
                self._write([entry], arriving, lambda refusal: None)

    def _arrive(self, cursors: Iterable[Cursor]) -> dict[str, DeviceCursor]:
        """Notes cursors that are about to be written; returns them as they are noted."""
        arriving = {}
        for cursor in cursors:
            key = key_of(cursor.user_id, cursor.device_id, cursor.topic_id)
            found = DeviceCursor(cursor.device_id, cursor.epoch, cursor.seq, 0, cursor.above, cursor.attempts)
            before = self._arriving.get(key)
            arriving[key] = self._arriving[key] = found if before is None else merged(found, before)
        return arriving

    def _write(self, entries: list[bytes], arriving: Mapping[str, DeviceCursor], stored: Stored) -> None:
        """Writes cursors that were noted, and forgets them once they are stored. Raises Refusal."""

        def arrived(refusal: Refusal | None) -> None:
            self._arrived(arriving)
            stored(refusal)

        try:
            self._owner.inbox.cursor_writer.write(entries, arrived)
        except Refusal:
            self._arrived(arriving)
            raise

    def _arrived(self, arriving: Mapping[str, DeviceCursor]) -> None:
        for key, cursor in arriving.items():
            if self._arriving.get(key) is cursor:  # else a newer one is on its way
                del self._arriving[key]

    def _answer(self, peer: Destination, ask: OpenCursor) -> None:
        """Answers with the stored cursor, merged with one that is on its way to the log."""
        users = self._owner.inbox.users
        known = users.cursors.find(ask.user_id, ask.device_id, ask.topic_id)
        last = self._arriving.get(key_of(ask.user_id, ask.device_id, ask.topic_id))
        if last is not None:
            known = merged(last, known or last)
        cursor = None
        if known is not None:
            ids = ask.user_id, ask.device_id, ask.topic_id
            cursor = Cursor(*ids, known.epoch, known.seq, known.above, known.attempts)
        topic = users.membership(ask.user_id, ask.topic_id)
        joined = (0, 0) if topic is None else (topic.epoch, topic.joined_seq)
        peer.send(CursorAnswer(ask.req, cursor, *joined))

    # -- what gateways announce

    def _attach(self, peer: Destination, attach: AttachCursors) -> None:
        leases = self._owner.leases
        if attach.first:
            leases.forget(peer)
        for lease in attach.leases:
            lost = leases.take(peer, lease)
            if lost is not None:  # nobody waits for its cursor: the gateway sends it as at every end
                lost[0].send(ReplaceSubscription(NOBODY, lost[1]))

    def _release(self, peer: Destination, ended: ReleaseCursor) -> None:
        key = key_of(ended.user_id, ended.device_id, ended.topic_id)
        self._owner.leases.release(peer, key, ended.connection_id)

    # -- cursors to store

    def _move(self, peer: Destination, ask: MoveCursors) -> None:
        if len(ask.cursors) > MAX_CURSORS:
            raise Refusal("bad_request", f"{len(ask.cursors)} cursors, expected at most {MAX_CURSORS}")
        # Those that are known move on all the same.
        rows = self._owner.inbox.users.cursors
        within = [each for each in ask.cursors if self._is_within_share(each)]
        if ask.cursors and not within:  # with those of others it is dropped: they must not wait for it
            raise _share_used()
        cursors = [each for each in within if rows.has_room(each.user_id, each.device_id, each.topic_id)]
        try:
            entries = [encode_cursor(cursor) for cursor in cursors]
        except CorruptRecord as error:
            raise Refusal("bad_request", str(error)) from None
        arriving = self._arrive(cursors)
        if len(cursors) < len(within):
            self._write(entries, arriving, lambda refusal: None)
            raise _full()
        self._write(entries, arriving, partial(self._stored, peer, ask))

    def _is_within_share(self, cursor: Cursor) -> bool:
        """Returns whether its user may have it; where there is a lease that was decided when it was given."""
        ids = cursor.user_id, cursor.device_id, cursor.topic_id
        return self._owner.inbox.users.cursors.has_share(*ids) or self._owner.leases.is_held(*ids)

    def _stored(self, peer: Destination, ask: MoveCursors, refusal: Refusal | None) -> None:
        if not peer.open:
            return
        peer.send(CursorsMoved(ask.req) if refusal is None else refused_with(ask.req, refusal))

    def _given_up(self) -> Refusal:
        return Refusal("not_ready", f"shard {self._owner.number} was given up")


def _entry_of(ask: OpenCursor, cursor: Cursor | None) -> bytes | None:
    """Returns a cursor as an entry of a record; None where it is of something else, or not as it should be."""
    ids = ask.user_id, ask.device_id, ask.topic_id
    if cursor is None or (cursor.user_id, cursor.device_id, cursor.topic_id) != ids:
        return None
    try:
        return encode_cursor(cursor)
    except CorruptRecord:
        return None


def _full() -> Refusal:
    return Refusal("overloaded", "this shard has as many cursors as it can hold")


def _share_used() -> Refusal:
    return Refusal("limit_reached", f"a user has at most {SHARE} cursors: one for each of his devices and topics")


def _replaced() -> Refusal:
    return Refusal("already_subscribed", "a newer session of this device follows the topic")
