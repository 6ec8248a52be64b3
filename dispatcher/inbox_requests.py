"""Requests about the inboxes of a shard's users: pages of the join, and read marks to store."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

from dispatcher.answering import answer_with, refuse
from dispatcher.shard import Destination, ShardOwner
from dispatcher.sliced_work import ANSWER_S, SlicedWork
from headgate.core.inbox.inbox_pages import SLICE_TOPICS, Steps, inbox_page, missed_page, whole
from headgate.core.inbox.read_marks import MAX_ROWS, mark_key
from headgate.core.wire.errors import CorruptRecord, Refusal
from headgate.core.wire.inbox_record import encode_mark_entry
from headgate.core.wire.link_inbox import (
    MAX_MARKS,
    MISSED_TOPICS,
    PAGE_TOPICS,
    AskInbox,
    AskMissedTopics,
    InboxAnswer,
    InboxTopic,
    MarksMoved,
    MissedTopic,
    MissedTopics,
    MoveMarks,
    ReadMark,
)
from headgate.core.wire.linkcodec import refused_with

RETRY_MS: Final = 1_000
InboxMessage = AskInbox | AskMissedTopics | MoveMarks
P = TypeVar("P")


class InboxRequests:
    """Answers them for one shard. Questions wait until the inbox log has been read."""

    def __init__(self, owner: ShardOwner) -> None:
        self._owner = owner
        self._long = SlicedWork()
        self._handlers: Mapping[type, Callable[..., None]] = {
            AskInbox: self._inbox,
            AskMissedTopics: self._missed,
            MoveMarks: self._move,
        }

    def handle(self, peer: Destination, message: InboxMessage) -> None:
        """Takes one message, answers it now or later. It never raises: a refusal is an answer too."""
        if not peer.open:
            return
        if self._owner.closed:
            refuse(peer, message, self._given_up())
        else:
            answer_with(self._handlers[type(message)], peer, message)

    def close(self) -> None:
        """The shard is no longer served here."""
        self._long.close(self._given_up())

    # -- pages

    def _inbox(self, peer: Destination, ask: AskInbox) -> None:
        limit = min(max(ask.limit, 0), PAGE_TOPICS)
        steps = inbox_page(self._owner.inbox.users, ask.user_id, ask.device_id, ask.after, limit, ask.caller)

        def done(topics: list[InboxTopic]) -> None:
            peer.send(InboxAnswer(ask.req, topics))

        self._answer(peer, ask, steps, done)

    def _missed(self, peer: Destination, ask: AskMissedTopics) -> None:
        after = ask.after_ts, ask.after_id
        steps = missed_page(self._owner.inbox.users, ask.user_id, ask.device_id, after, MISSED_TOPICS)

        def done(page: tuple[list[MissedTopic], bool]) -> None:
            peer.send(MissedTopics(ask.req, *page))

        self._answer(peer, ask, steps, done)

    def _answer(
        self, peer: Destination, ask: AskInbox | AskMissedTopics, steps: Steps[P], done: Callable[[P], None]
    ) -> None:
        """Answers at once; a user of very many topics is answered in steps. Raises Refusal."""
        inbox = self._owner.inbox

        def answer(page: P) -> None:
            if peer.open:
                done(page)

        if not inbox.is_complete:
            if not inbox.hold(partial(self.handle, peer, ask)):
                raise Refusal("not_ready", "too many wait for this shard's inbox log", retry_after_ms=RETRY_MS)
        elif inbox.users.memberships.size(ask.user_id) <= SLICE_TOPICS:
            answer(whole(steps))
        else:
            self._long.begin(steps, answer, partial(self._failed, peer, ask), ANSWER_S)

    def _failed(self, peer: Destination, ask: AskInbox | AskMissedTopics, refusal: Refusal) -> None:
        if peer.open:
            refuse(peer, ask, refusal)

    # -- read marks to store

    def _move(self, peer: Destination, ask: MoveMarks) -> None:
        if len(ask.marks) > MAX_MARKS:
            raise Refusal("bad_request", f"{len(ask.marks)} read marks, expected at most {MAX_MARKS}")
        marks = [mark for mark in ask.marks if self._has_room(mark)]  # those that are known move on all the same
        try:
            entries = [encode_mark_entry(mark) for mark in marks]
        except CorruptRecord as error:
            raise Refusal("bad_request", str(error)) from None
        if len(marks) < len(ask.marks):
            self._owner.inbox.mark_writer.write(entries, lambda refusal: None)
            raise Refusal("overloaded", f"this shard has {MAX_ROWS} read marks, and no room for more")
        self._owner.inbox.mark_writer.write(entries, partial(self._stored, peer, ask))

    def _stored(self, peer: Destination, ask: MoveMarks, refusal: Refusal | None) -> None:
        if peer.open:
            peer.send(MarksMoved(ask.req) if refusal is None else refused_with(ask.req, refusal))

    def _has_room(self, mark: ReadMark) -> bool:
        rows = self._owner.inbox.users.marks
        return len(rows) < MAX_ROWS or mark_key(mark.user_id, mark.topic_id) in rows

    def _given_up(self) -> Refusal:
        return Refusal("not_ready", f"shard {self._owner.number} was given up")
