"""What records of kind EVENT do to a message: who may, and at which version, is decided here, where it is applied.

That the actor of an edit published the message cannot change: the owner has looked it up before the record was written.
"""

from typing import Final

from headgate.core.sequencer.changed_messages import FIRST_VERSION, ChangedMessage
from headgate.core.sequencer.effects import Deliver, MessageChanged
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.window import SEQ_UNKNOWN, window_key
from headgate.core.wire.control import Actor
from headgate.core.wire.envelope import KEYED, MAX_ITEMS, NO_ID, Envelope
from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.frames import edit_frame, message_frame
from headgate.core.wire.member_roles import Right, has, rights_in
from headgate.core.wire.message_changes import (
    ChangeRecord,
    EditMessage,
    MessageChange,
    RedactMessage,
    check_event,
    decode_event,
)
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code, Verdict

_CHANGED: Final = Verdict(Code.CHANGED)
_STALE: Final = int.from_bytes(b"stale edit's id ")  # with it the window has the id of an edit that was a CONFLICT


def change_message(shard: Shard, row: Row, record: Record, envelope: Envelope) -> tuple[Verdict, MessageChanged | None]:
    """Applies an event of a topic in the epoch it was decided against. Raises CorruptRecord; then nothing changed.

    A repeat is DUPLICATE with the seq of the first, as with messages; SEQ_UNKNOWN for one that was FORBIDDEN too. What
    was a CONFLICT once stays one, whatever version a repeat of its id names: so the first record of an id that has a
    seq is the event, and a rebuild of the history finds it by the id alone.
    """
    told = decode_event(envelope.body)
    change = told.change
    _check(row, record, envelope, told)
    name = window_key(envelope.id, row.epoch)
    seen = shard.window.find(name)
    if seen is not None:
        return Verdict(Code.DUPLICATE, seen, row.epoch), None
    key, keyed = record.key or b"", bool(envelope.flags & KEYED)
    if shard.window.find(name ^ _STALE) is not None:
        return _conflict(shard, key, row, change), None
    verdict = _decide(shard, key, row, change)
    if verdict.code == Code.CONFLICT:
        shard.window.add(name ^ _STALE, SEQ_UNKNOWN, keyed, record.offset, shard.log_ms)
    if verdict.code == Code.FORBIDDEN:  # the role may come back; the answer to this record may not change
        shard.window.add(name, SEQ_UNKNOWN, keyed, record.offset, shard.log_ms)
    if verdict is not _CHANGED:
        return verdict, None
    row.seq += 1
    row.others += 1
    shard.window.add(name, row.seq, keyed, record.offset, shard.log_ms)
    _put(shard, key, row, change)
    event = deliver_event(row, row.seq, record, envelope, told)
    return Verdict(Code.CHANGED, row.seq, row.epoch), MessageChanged(event, change)


def _check(row: Row, record: Record, envelope: Envelope, told: ChangeRecord) -> None:
    if envelope.id == NO_ID:
        raise CorruptRecord("an event has an id")
    check_event(envelope.id, told)
    target_seq, target_pos = told.change.target_seq, told.change.target_pos
    if not 1 <= target_seq <= row.seq:
        raise CorruptRecord(f"an event of message {target_seq}, the topic has {row.seq}")
    if not 0 <= target_pos < record.offset * MAX_ITEMS:  # a row with a larger number fits in no snapshot
        raise CorruptRecord("an event of a message that stands behind it in the log")


def deliver_event(row: Row, seq: int, record: Record, envelope: Envelope, told: ChangeRecord) -> Deliver:
    """Returns an event that was given its seq, ready for every transport."""
    frame = event_frame(row.topic_id, seq, record.ts, told)
    return Deliver(row.topic_id, row.epoch, seq, record.ts, envelope.id, 0, frame, envelope.flags)


def event_frame(topic_id: str, seq: int, ts: int, told: ChangeRecord) -> bytes:
    """Returns the frame of an event."""
    build = edit_frame if isinstance(told.change, EditMessage) else message_frame
    return build(topic_id, seq, ts, told.tail)


def _decide(shard: Shard, key: bytes, row: Row, change: MessageChange) -> Verdict:
    rights = _rights(shard, key, row, change.actor)
    present = shard.changed.get(key, row.epoch, change.target_seq)
    if isinstance(change, EditMessage):
        if not has(rights, Right.PUBLISH) or change.target_pos <= shard.changed.below:
            return Verdict(Code.FORBIDDEN, 0, row.epoch)
        stale = change.version != _version(shard, key, row, change) or (present is not None and present.redacted)
        return _conflict(shard, key, row, change) if stale else _CHANGED
    if isinstance(change, RedactMessage):
        own = change.own and (row.permissions != "PRIVATE" or rights != Right.NONE)
        if not own and not has(rights, Right.ADMINISTER):
            return Verdict(Code.FORBIDDEN, 0, row.epoch)
    elif not has(rights, Right.SUBSCRIBE):
        return Verdict(Code.FORBIDDEN, 0, row.epoch)
    redacted = present is not None and present.redacted  # repeated, or a reaction to what is gone
    return Verdict(Code.IGNORED, 0, row.epoch) if redacted else _CHANGED


def _conflict(shard: Shard, key: bytes, row: Row, change: MessageChange) -> Verdict:
    return Verdict(Code.CONFLICT, _version(shard, key, row, change), row.epoch)


def _version(shard: Shard, key: bytes, row: Row, change: MessageChange) -> int:
    present = shard.changed.get(key, row.epoch, change.target_seq)
    return FIRST_VERSION if present is None else present.version


def _rights(shard: Shard, key: bytes, row: Row, actor: Actor) -> Right:
    role = shard.role(key, row, actor.user_id)
    return rights_in(row.permissions, role, Right(actor.given) & Right.ALL, only=actor.only)


def _put(shard: Shard, key: bytes, row: Row, change: MessageChange) -> None:
    if isinstance(change, EditMessage):
        now = ChangedMessage(change.version + 1, change.target_pos, False)
    elif isinstance(change, RedactMessage):
        now = ChangedMessage(_version(shard, key, row, change), change.target_pos, True)
    else:
        return
    shard.changed.put(key, row.epoch, change.target_seq, now)
