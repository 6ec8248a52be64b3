"""Gives messages as they are now: folds edits, redactions and reactions into the frames that were built from records.

While there is an index file, its tables know what was done to a message. Without it a message in memory is folded from
the events in memory: whatever was done to it came after it.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from dispatcher.index_changes import ChangeState, ChangeTables, EditPlace, change_number, is_edit, target_of
from dispatcher.recent import RecentMessage
from headgate.core.wire.amended_frames import MessageState, amended_frame, payload_in, redacted_frame
from headgate.core.wire.message_changes import EditMessage, ReactToMessage, RedactMessage

Place = tuple[int, int]  # pos, seq
StateOf = Callable[[int], ChangeState]
FrameOf = Callable[[EditPlace], bytes | None]
UNCHANGED: Final = ChangeState(None, False, {})


class KeptMessage(NamedTuple):
    """A message or event as it is kept. `frame` is None where it has to be read from the log.

    `change` says what an event did (`change_number`), 0 for a message.
    """

    seq: int
    pos: int
    ts: int
    frame: bytes | None
    change: int


class Fold:
    """The changes of a stretch of one topic. `state_of` returns what was done to a message.

    `frame_of` returns the frame of an edit, None where it is in the log.
    """

    def __init__(self, state_of: StateOf, is_redacted: Callable[[int], bool], frame_of: FrameOf) -> None:
        self._state_of = state_of
        self._is_redacted = is_redacted
        self._frame_of = frame_of

    def state(self, seq: int) -> ChangeState:
        """Returns what was done to a message."""
        return self._state_of(seq)

    def now(self, kept: KeptMessage) -> bytes | list[Place]:
        """Returns the frame of a message as it is now, or what has to be read from the log before."""
        if kept.change:
            return self._event(kept)
        state = self.state(kept.seq)
        if state.redacted:
            return [(kept.pos, kept.seq)] if kept.frame is None else redacted_frame(kept.frame)
        edit = state.edit
        edit_frame = None if edit is None else self._frame_of(edit)
        absent = [(kept.pos, kept.seq)] if kept.frame is None else []
        if edit is not None and edit_frame is None:
            absent.append((edit.pos, edit.seq))
        if absent or kept.frame is None:
            return absent
        if edit is None or edit_frame is None:
            return amended_frame(kept.frame, MessageState(reactions=state.reactions)) if state.reactions else kept.frame
        now = MessageState(edit.version, payload_in(edit_frame), edit.ts, False, state.reactions)
        return amended_frame(kept.frame, now)

    def _event(self, kept: KeptMessage) -> bytes | list[Place]:
        if kept.frame is None:
            return [(kept.pos, kept.seq)]
        gone = is_edit(kept.change) and self._is_redacted(target_of(kept.change))
        return redacted_frame(kept.frame) if gone else kept.frame


class NoFold(Fold):
    """A topic in which nothing was ever changed: frames are as they were built."""

    def __init__(self) -> None:
        super().__init__(lambda seq: UNCHANGED, lambda target: False, lambda edit: None)

    def now(self, kept: KeptMessage) -> bytes | list[Place]:
        """Returns the frame."""
        return [(kept.pos, kept.seq)] if kept.frame is None else kept.frame


NO_FOLD: Final = NoFold()


def fold_of_tables(changes: ChangeTables, epoch: int, low: int, high: int, frame_of: FrameOf) -> Fold:
    """Returns the changes of a topic's messages [low, high] as the tables of the index file have them."""
    states = changes.states(epoch, low, high)
    return Fold(lambda seq: states.get(seq, UNCHANGED), lambda target: changes.is_redacted(epoch, target), frame_of)


def fold_of_events(changes_of: Callable[[int], Iterable[RecentMessage]], frame_of: FrameOf) -> Fold:
    """Returns the changes that events in memory made; `changes_of` gives those of a message in the order of the log.

    Only messages that are asked for cost anything.
    """
    states: dict[int, ChangeState] = {}

    def state_of(seq: int) -> ChangeState:
        if seq not in states:
            states[seq] = _state_of(list(changes_of(seq)))
        return states[seq]

    return Fold(state_of, lambda target: state_of(target).redacted, frame_of)


def edits_in(events: Iterable[RecentMessage]) -> list[EditPlace]:
    """Returns the edits among the events of a message, oldest first."""
    return [EditPlace(e.change.version + 1, e.seq, e.pos, e.ts) for e in events if isinstance(e.change, EditMessage)]


def reacting_in(events: Iterable[RecentMessage]) -> set[tuple[str, str]]:
    """Returns (name, user) of the reactions that the events of a message leave."""
    reacting: set[tuple[str, str]] = set()
    for e in events:
        if isinstance(e.change, ReactToMessage):
            act = reacting.discard if e.change.removed else reacting.add
            act((e.change.name, e.change.actor.user_id))
    return reacting


def _state_of(told: list[RecentMessage]) -> ChangeState:
    edits = edits_in(told)
    redacted = any(isinstance(e.change, RedactMessage) for e in told)
    return ChangeState(edits[-1] if edits else None, redacted, _counted(reacting_in(told)))


def kept_of(entry: RecentMessage) -> KeptMessage:
    """Returns a message in memory as the file would give it."""
    return KeptMessage(entry.seq, entry.pos, entry.ts, entry.frame, change_number(entry.change))


def _counted(reacting: Iterable[tuple[str, str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, _ in reacting:
        counts[name] = counts.get(name, 0) + 1
    return counts
