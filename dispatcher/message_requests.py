"""Requests about single messages: read one, and ask whether it may be changed or replied to."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec

from dispatcher.folding import Fold, KeptMessage, Place
from dispatcher.index_changes import ChangeState, EditPlace
from dispatcher.log_end import refuse_late
from dispatcher.page_builder import ABSENT
from dispatcher.reading import HISTORY_BYTES, Reading
from dispatcher.shard import Destination, ShardOwner
from headgate.core.sequencer.changed_messages import FIRST_VERSION
from headgate.core.sequencer.rows import Row
from headgate.core.wire import rights
from headgate.core.wire.amended_frames import frame_members, payload_in
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text, topic_key
from headgate.core.wire.link_messages import AskMessage, MessageAnswer, MessageVersion
from headgate.core.wire.member_roles import Right, Role, has
from headgate.core.wire.message_changes import MAX_NAMES, NO_PAYLOAD, is_reaction_name
from headgate.core.wire.payload import without_lone

RETRY_MS: Final = 1_000
MAX_VERSIONS: Final = 1_000  # of one answer, the newest
# What a caller needs in the topic; to redact, one who did not publish the message needs ADMINISTER.
_NEEDED: Final[Mapping[str, Right]] = {
    "read": Right.SUBSCRIBE,
    "reposition": Right.SUBSCRIBE,
    "react": Right.SUBSCRIBE,
    "unreact": Right.SUBSCRIBE,
    "reply": Right.PUBLISH,
    "edit": Right.PUBLISH,
    "redact": Right.NONE,
}
_OF_EVENTS: Final = frozenset({"read", "reposition"})  # an event itself is never changed
_WITH_FRAME: Final = frozenset({"read", "edit", "redact"})


class _Subject(NamedTuple):
    """The message that a request is about, and the caller's rights in its topic."""

    row: Row
    kept: KeptMessage
    fold: Fold
    rights: Right

    @property
    def state(self) -> ChangeState:
        """What was done to it, as the index knows it."""
        return self.fold.state(self.kept.seq)


class MessageRequests:
    """Answers them for one shard. `handlers` are by the type of the request; each raises Refusal.

    `again` handles a request once more when its link has room, `answer_with` with another handler, at once.
    """

    def __init__(
        self,
        owner: ShardOwner,
        reading: Reading,
        again: Callable[[Destination, AskMessage], None],
        answer_with: Callable[[Callable[..., None], Destination, AskMessage], None],
    ) -> None:
        self._owner = owner
        self._reading = reading
        self._again = again
        self._answer_with = answer_with
        self.handlers: Mapping[type, Callable[..., None]] = {AskMessage: self._message}

    def _message(self, peer: Destination, ask: AskMessage, *, at_end: bool = False) -> None:
        if ask.purpose not in _NEEDED:
            raise Refusal("bad_request", f"purpose {ask.purpose[:32]!r}, expected one of {', '.join(_NEEDED)}")
        place = self._place(ask)
        if place is None and not at_end:
            self._look_at_end(peer, ask)
            return
        if place is None:
            raise _unknown(ask) if self._owner.history.complete else _not_yet()
        subject = self._subject(ask, *place)
        now = subject.fold.now(subject.kept) if ask.purpose in _WITH_FRAME else b""
        versions, absent = list[MessageVersion](), [] if isinstance(now, bytes) else now
        if ask.versions and ask.purpose == "read" and not absent:
            versions, absent = self._versions(subject)
        if absent and self._owner.pages.crowded:
            raise Refusal("not_ready", "too many wait for old messages of this shard", retry_after_ms=RETRY_MS)
        if absent:
            self._owner.pages.want(subject.row, absent[:ABSENT], peer, lambda: self._again(peer, ask))
            return
        assert isinstance(now, bytes)
        answer = self._answer(ask, subject, now)
        answer.versions = versions
        peer.send(answer)

    def _look_at_end(self, peer: Destination, ask: AskMessage) -> None:
        """Looks for a message again once all that is in the log now is applied: its publisher may have just got 200."""

        def again(applied: bool) -> None:
            self._answer_with(partial(self._message, at_end=True) if applied else refuse_late, peer, ask)

        if not self._owner.log_end.wait(peer, again):
            raise Refusal("not_ready", "too many wait for the end of this shard's log", retry_after_ms=RETRY_MS)

    # -- which message

    def _subject(self, ask: AskMessage, row: Row, seq: int) -> _Subject:
        history = self._owner.history
        kept = history.get(row.epoch, seq)
        if kept is None or (kept.change and ask.purpose not in _OF_EVENTS):
            raise _unknown(ask)
        first, is_known = self._reading.kept(row)
        if seq < first and is_known:
            raise _unknown(ask)
        if seq < first and row.others:
            raise _not_yet()
        return _Subject(row, kept, history.fold(row.epoch, seq, seq), self._rights(ask, row))

    def _place(self, ask: AskMessage) -> tuple[Row, int] | None:
        """Returns the topic of a message and its seq, None where it is unknown.

        A topic that the caller may not see is as good as none.
        """
        owner, found = self._owner, list[tuple[Row, int]]()
        if ask.topic_id:
            row = owner.rows.get(topic_key(ask.topic_id))
            if row is None:
                raise rights.unknown_topic(ask.topic_id)
            rights.require(True, ask.caller, row, self._role(ask, row), "see")
            if row.ephemeral:
                raise Refusal("not_in_profile", f"topic {row.topic_id} is ephemeral: nothing of it is kept")
            seq = owner.history.seq_of(ask.message_id, row.epoch)
            found = [] if seq is None else [(row, seq)]
        else:
            for epoch, seq in owner.history.places_of(ask.message_id):
                row = owner.rows.get(topic_key(owner.topics.topic_of(epoch) or ""))
                if row is not None and rights.may_see(ask.caller, row, self._role(ask, row)):
                    found.append((row, seq))
        return found[0] if found else None

    def _role(self, ask: AskMessage, row: Row) -> Role | None:
        return self._owner.shard.role(topic_key(row.topic_id), row, ask.caller.user_id)

    def _rights(self, ask: AskMessage, row: Row) -> Right:
        role = self._role(ask, row)
        found = rights.rights_of(ask.caller, row, role)
        needed = _NEEDED[ask.purpose]
        allowed = needed is Right.NONE or has(found, needed)
        rights.require(allowed, ask.caller, row, role, f"{ask.purpose} messages of")
        return found

    # -- its versions

    def _versions(self, subject: _Subject) -> tuple[list[MessageVersion], list[Place]]:
        """Returns the versions, oldest first, and what has to be read from the log before they are whole.

        Of many, or of large ones, they are the newest: no more is read than the answer has room for, because what is
        read is kept within bounds, and a reader that needs more at once would never have all of it.
        """
        row, kept = subject.row, subject.kept
        places = self._owner.history.edits(row.epoch, kept.seq, MAX_VERSIONS - 1)
        if not places or places[0].version == FIRST_VERSION + 1:
            places.insert(0, EditPlace(FIRST_VERSION, kept.seq, kept.pos, 0))
        found, absent, size = list[MessageVersion](), list[Place](), 0
        for place in reversed(places):
            payload = self._payload(subject, place)
            size += len(payload or b"")
            if (size > HISTORY_BYTES and place.seq != kept.seq) or len(absent) == ABSENT:
                break
            if payload is None:
                absent.append((place.pos, place.seq))
            else:
                found.append(MessageVersion(place.version, payload, place.ts))
        return found[::-1], absent

    def _payload(self, subject: _Subject, place: EditPlace) -> bytes | None:
        if subject.state.redacted:
            return NO_PAYLOAD
        frame = self._owner.history.frame_of(subject.row.epoch, place)
        return None if frame is None else payload_in(frame)

    # -- the answer

    def _answer(self, ask: AskMessage, subject: _Subject, frame: bytes) -> MessageAnswer:
        row, kept, state, _ = (subject.row, subject.kept, subject.state, subject.rights)
        shard = self._owner.shard
        present = shard.changed.get(topic_key(row.topic_id), row.epoch, kept.seq)
        known = state.edit.version if state.edit is not None else FIRST_VERSION
        own = bool(frame) and _publisher(frame) == ask.caller.user_id
        redacted = state.redacted or (present is not None and present.redacted)
        self._require(ask, subject, own=own, redacted=redacted)
        return MessageAnswer(
            req=ask.req,
            topic_id=row.topic_id,
            epoch=row.epoch,
            seq=kept.seq,
            pos=kept.pos,
            version=known if present is None else present.version,
            redacted=redacted,
            own=own,
            settled=self._settled(ask, subject, redacted=redacted),
            logic=shard.logic,
            frame=frame,
            versions=[],
        )

    def _settled(self, ask: AskMessage, subject: _Subject, *, redacted: bool) -> bool:
        if ask.purpose == "redact":
            return redacted
        if ask.purpose not in ("react", "unreact"):
            return False
        history, (row, kept) = self._owner.history, subject[:2]
        reacts = not redacted and history.reacts(row.epoch, kept.seq, ask.name, ask.caller.user_id)
        return reacts is (ask.purpose == "react")

    def _require(self, ask: AskMessage, subject: _Subject, *, own: bool, redacted: bool) -> None:
        """Raises Refusal for what cannot be done, or not by this caller."""
        who, where = ask.caller.user_id, f"message {id_text(ask.message_id)}"
        if ask.purpose == "edit":
            if not own:
                raise Refusal("forbidden", f"{who} did not publish {where}")
            if subject.kept.pos <= self._owner.shard.changed.below:
                raise Refusal("immutable", f"{where} is too old to be edited; publish a new one")
        elif ask.purpose == "redact" and not has(subject.rights, Right.ADMINISTER):
            if not own:
                raise Refusal("forbidden", f"{who} may not redact {where}: he neither published it nor is an admin")
            if ask.caller.only and not has(subject.rights, Right.PUBLISH):
                raise Refusal("forbidden", f"the token of {who} does not let him redact {where}")
        elif ask.purpose in ("react", "unreact"):
            self._require_reaction(ask, subject, redacted=redacted)

    def _require_reaction(self, ask: AskMessage, subject: _Subject, *, redacted: bool) -> None:
        if not is_reaction_name(ask.name):
            raise Refusal("bad_request", "a reaction has 1 to 32 characters, none of them a control character")
        if ask.purpose == "unreact":
            return
        if redacted:
            raise Refusal("immutable", f"message {id_text(ask.message_id)} is redacted")
        names = subject.state.reactions
        if ask.name not in names and len(names) >= MAX_NAMES:
            raise Refusal("limit_reached", f"a message has at most {MAX_NAMES} different reactions")


def _publisher(frame: bytes) -> str:
    found = without_lone(frame_members(frame).get("publisher_id", b'""'))
    try:
        return msgspec.json.decode(found, type=str)
    except msgspec.DecodeError:  # a record written by hand
        return ""


def _unknown(ask: AskMessage) -> Refusal:
    return Refusal("message_not_found", f"there is no message {id_text(ask.message_id)}")


def _not_yet() -> Refusal:
    return Refusal("not_ready", "the history of this shard is not whole yet; try again", retry_after_ms=RETRY_MS)
