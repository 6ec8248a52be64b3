"""The owners' side of read marks in memory: what they mean, and which are stored."""

from collections.abc import Callable
from typing import Any

from headgate.core.wire import link
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_inbox import MarksMoved, MoveMarks, ReadMark, ReadStored, ResolvedMark, ResolveMark
from headgate.core.wire.rights import Caller, unknown_topic


class MarksTwin:
    """Everything happens at once. Each message is a message: n is the seq. `away`: the users' owners refuse."""

    def __init__(self, find: Callable[[str], Any], role_of: Callable[[Caller, Any], Any]) -> None:
        self._find = find
        self._role_of = role_of
        self.marks: dict[tuple[str, str], ReadMark] = {}  # by user and topic
        self.resolved: list[ResolveMark] = []
        self.moves: list[MoveMarks] = []
        self.told: list[ReadStored] = []
        self.away = False

    def ask(self, request: ResolveMark | MoveMarks) -> link.Answer:
        """Raises Refusal."""
        if isinstance(request, ResolveMark):
            self.resolved.append(request)
            return self._resolve(request)
        if self.away:
            raise Refusal("not_ready", "away")
        self.moves.append(request)
        for mark in request.marks:
            key = mark.user_id, mark.topic_id
            before = self.marks.get(key)
            if before is None or (before.epoch, before.seq) < (mark.epoch, mark.seq):
                self.marks[key] = mark
        return MarksMoved(request.req)

    def _resolve(self, ask: ResolveMark) -> ResolvedMark:
        topic = self._find(ask.topic_id)
        if self._role_of(ask.caller, topic) is None:
            raise unknown_topic(ask.topic_id)
        if not topic.durable:
            raise Refusal("not_in_profile", "ephemeral")
        seq = min(ask.seq, topic.seq)
        return ResolvedMark(ask.req, ask.topic_id, topic.epoch, seq, seq)

    def take(self, message: link.Message) -> bool:
        """Takes a message without an answer; false where it is about something else."""
        if not isinstance(message, ReadStored):
            return False
        self.told.append(message)
        return True

    def seq(self, user: str, topic: str) -> int | None:
        """Returns how far a user has read, as it is stored."""
        mark = self.marks.get((user, topic))
        return None if mark is None else mark.seq
