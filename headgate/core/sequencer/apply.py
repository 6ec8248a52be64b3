"""The sequencer: applies one record of the message log to a shard and one topic row.

`apply(shard, row, record) -> (shard', row', verdicts, effects)`. The one owner of the shard and the row hands them in
and gets their successors back, which may be the same objects. The result depends on the arguments alone: two nodes that
read the same log agree on every number.
"""

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Final, NamedTuple

from headgate.core.sequencer.direct_members import join_both, missing_logic
from headgate.core.sequencer.effects import Deliver, Effect, TopicCreated, TopicDeleted, Unusable
from headgate.core.sequencer.message_events import change_message
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.topic_changes import TopicChange, change_topic, delete_verdict, repeated
from headgate.core.sequencer.window import window_key
from headgate.core.wire.control import (
    LOGIC,
    MEMBERS_LOGIC,
    MESSAGES_LOGIC,
    Config,
    Control,
    CreateTopic,
    DeleteTopic,
    Logic,
    decode_body,
)
from headgate.core.wire.envelope import KEYED, NO_ID, Envelope, Item, Kind, decode, is_ours
from headgate.core.wire.errors import CorruptRecord, HeadgateError, Refusal, UnknownVersion
from headgate.core.wire.frames import message_frame
from headgate.core.wire.ids import FOREIGN_PUBLISHER, check_topic_id, foreign_id, id_text, make_epoch, shard_of
from headgate.core.wire.message_changes import ChangeRecord, check_event, decode_event
from headgate.core.wire.payload import read_foreign
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code, Verdict

LOG_TIME_STEP_MS: Final = (
    3_600_000  # one record moves log time by this much at most; counts bound the windows meanwhile
)
KEY_BYTES: Final = 1_024  # of a topic's key: it must fit into a chunk of a snapshot

_ACCEPTED: Final = Code.ACCEPTED  # a global is found faster than an attribute, and this is used for every message
_DUPLICATE: Final = Code.DUPLICATE
_CONTROL: Final = Kind.CONTROL
_EVENT: Final = Kind.EVENT


class Applied(NamedTuple):
    """The result of one record: the successors, one verdict an item, and the effects that the owner carries out."""

    shard: Shard
    row: Row | None
    verdicts: list[Verdict]
    effects: list[Effect]


class NotConfigured(HeadgateError):
    """The shard's first record is not its config record: run `headgate init`. Nothing has changed."""


class _Refused(Exception):
    """Ends the handling of a record that becomes a dead letter."""

    def __init__(self, reason: str, detail: str = "", logic: int = 0) -> None:
        self.reason = reason
        self.detail = detail
        self.logic = logic  # that the record needs, if the shard only has to be raised to it


def apply(shard: Shard, row: Row | None, record: Record) -> Applied:
    """Applies one record; `row` is the row of its key, None where there is none.

    Raises UnknownVersion or NotConfigured: then nothing has changed, and the shard has to park.
    """
    applied = _judge(shard, row, record)
    after = applied.row
    shard.digest.fold(record.offset, 0 if after is None else after.seq, bytes([v.code for v in applied.verdicts]))
    return applied


def apply_many(
    shard: Shard, rows: MutableMapping[bytes, Row], records: Iterable[Record]
) -> Iterator[tuple[Record, Applied]]:
    """Applies records one after the other; `rows` are by topic key. A compiled version would replace this function."""
    for record in records:
        key = record.key or b""
        row = rows.get(key)
        applied = apply(shard, row, record)
        if applied.row is not row:
            if applied.row is None:
                rows.pop(key, None)
            else:
                rows[key] = applied.row
        yield record, applied


def foreign_item(record: Record, config: Config) -> Item:
    """Returns the message of a foreign producer's record. Raises ValueError with the reason of its dead letter."""
    key, value = record.key or b"", record.value or b""
    payload = read_foreign(value, config.payload_bytes)
    record_id = foreign_id(key, config.shard, record.offset)
    tail = b'"message_id":"%b","publisher_id":"%b","payload":%b}' % (
        id_text(record_id).encode(),
        FOREIGN_PUBLISHER.encode(),
        payload,
    )
    return Item(record_id, 0, tail)


def items_of(record: Record, config: Config) -> Sequence[Item]:
    """Returns the messages a record carries, accepted or not; none where the record cannot be read."""
    try:
        if is_ours(record.value or b""):
            return decode(record.value or b"").items
        return (foreign_item(record, config),)
    except (CorruptRecord, ValueError):
        return ()


def event_in(record: Record) -> ChangeRecord | None:
    """Returns the change that a record holds, accepted or not; None for every other record, and for a broken one."""
    value = record.value or b""
    try:
        envelope = decode(value) if is_ours(value) else None
        if envelope is None or envelope.kind is not Kind.EVENT:
            return None
        told = decode_event(envelope.body)
        check_event(envelope.id, told)
    except CorruptRecord:
        return None
    return told


def _judge(shard: Shard, row: Row | None, record: Record) -> Applied:
    value = record.value or b""
    try:
        envelope = decode(value) if is_ours(value) else None
    except CorruptRecord as error:
        return _dead_letter(_advance(shard, record), row, "corrupt", str(error))
    if shard.config is None and not (envelope and envelope.kind is Kind.CONTROL):
        raise NotConfigured(f"offset {record.offset} stands before the shard's config record; run `headgate init`")
    try:
        if envelope is None:
            return _foreign(_advance(shard, record), row, record)
        if envelope.kind is _CONTROL:
            return _control(shard, row, record, envelope)
        if envelope.kind is _EVENT:
            return _event(_advance(shard, record), row, record, envelope)
        return _messages(_advance(shard, record), row, record, envelope.epoch, envelope.items)
    except _Refused as refused:
        return _dead_letter(_advance(shard, record), row, refused.reason, refused.detail, refused.logic)


def _advance(shard: Shard, record: Record) -> Shard:
    """Moves past a record, also one that is refused afterwards; a second call changes nothing."""
    if shard.next_offset > record.offset:
        return shard
    shard.next_offset = record.offset + 1
    if shard.log_ms == 0:
        shard.log_ms = record.ts
    elif record.ts > shard.log_ms:
        shard.log_ms = min(record.ts, shard.log_ms + LOG_TIME_STEP_MS)
    if shard.config is not None:
        shard.window.enter(shard.log_ms, shard.config)
    return shard


def _dead_letter(shard: Shard, row: Row | None, reason: str, detail: str, logic: int = 0) -> Applied:
    return Applied(shard, row, [Verdict(Code.DEAD, logic)], [Unusable(1, reason, detail)])


def _foreign(shard: Shard, row: Row | None, record: Record) -> Applied:
    if record.key is None or record.value is None:
        raise _Refused("null", "a record needs a key (the topic id) and a value (JSON)")
    if row is None:
        raise _missing(shard, record)
    assert shard.config is not None
    try:
        item = foreign_item(record, shard.config)
    except ValueError as error:
        raise _Refused(str(error)) from None
    return _messages(shard, row, record, row.epoch, (item,))


def _missing(shard: Shard, record: Record) -> _Refused:
    """Returns why a key has no row: its record may be in a partition that the key does not hash to."""
    assert shard.config is not None
    key = record.key or b""
    if shard_of(key, shard.config.shards) != shard.config.shard:
        return _Refused("wrong_partition", "the key does not hash to this partition: were partitions added?")
    return _Refused("no_topic", "the topic does not exist")


def _messages(shard: Shard, row: Row | None, record: Record, epoch: int, items: Sequence[Item]) -> Applied:
    if row is None or row.epoch != epoch or row.ephemeral:
        return _refuse_all(shard, row, record, len(items))
    verdicts: list[Verdict] = []
    effects: list[Effect] = []
    window, log_ms, topic_id, seq = shard.window, shard.log_ms, row.topic_id, row.seq
    offset, ts = record.offset, record.ts
    for index, (record_id, flags, tail) in enumerate(items):
        key = window_key(record_id, epoch)
        seen = window.find(key)
        if seen is not None:
            verdicts.append(Verdict(_DUPLICATE, seen, epoch))
            continue
        seq += 1
        window.add(key, seq, bool(flags & KEYED), offset, log_ms)
        verdicts.append(Verdict(_ACCEPTED, seq, epoch))
        frame = message_frame(topic_id, seq, ts, tail)
        effects.append(Deliver(topic_id, epoch, seq, ts, record_id, index, frame, flags))
    row.seq = seq
    shard.changes += len(effects)
    return Applied(shard, row, verdicts, effects)


def _event(shard: Shard, row: Row | None, record: Record, envelope: Envelope) -> Applied:
    if shard.logic < MESSAGES_LOGIC:
        raise _Refused("corrupt", f"a change of a message in a shard of logic {shard.logic}", MESSAGES_LOGIC)
    if row is None or row.epoch != envelope.epoch or row.ephemeral:
        return _refuse_all(shard, row, record, 1)
    try:
        verdict, effect = change_message(shard, row, record, envelope)
    except CorruptRecord as error:
        raise _Refused("corrupt", str(error)) from None
    shard.changes += effect is not None
    return Applied(shard, row, [verdict], [] if effect is None else [effect])


def _refuse_all(shard: Shard, row: Row | None, record: Record, count: int) -> Applied:
    """Refuses all items of a record whose topic no longer exists, has been recreated, or keeps nothing."""
    if row is None:
        code, reason = Code.NO_TOPIC, _missing(shard, record).reason
    elif row.ephemeral:
        code, reason = Code.DEAD, "not_durable"
    else:
        code, reason = Code.STALE_EPOCH, "no_topic"
    return Applied(shard, row, [Verdict(code) for _ in range(count)], [Unusable(count, reason, "")])


def _control(shard: Shard, row: Row | None, record: Record, envelope: Envelope) -> Applied:
    try:
        control = decode_body(envelope.body)
    except CorruptRecord as error:
        if shard.config is None:
            raise NotConfigured(f"offset {record.offset}: {error}") from None
        return _dead_letter(_advance(shard, record), row, "corrupt", str(error))
    if isinstance(control, Config):
        return _configure(shard, row, record, control)
    if shard.config is None:
        raise NotConfigured(f"offset {record.offset} stands before the shard's config record; run `headgate init`")
    if isinstance(control, Logic) and control.level > LOGIC:
        raise UnknownVersion(f"records of logic {control.level} follow, this code has {LOGIC}: upgrade this node")
    return _change(_advance(shard, record), row, record, envelope, control)


def _configure(shard: Shard, row: Row | None, record: Record, config: Config) -> Applied:
    if shard.config is None:
        if config.logic > LOGIC:
            raise UnknownVersion(f"the shard has logic {config.logic}, this code has {LOGIC}: upgrade this node")
        shard.config = config
        shard.logic = config.logic
        shard.changes += 1
        verdict = Verdict(Code.CONFIGURED)
    elif shard.config == config:
        verdict = Verdict(Code.IGNORED)
    else:
        raise _Refused("config", f"shard {shard.config.shard} is already configured differently")
    return Applied(_advance(shard, record), row, [verdict], [])


def _change(shard: Shard, row: Row | None, record: Record, envelope: Envelope, control: Control) -> Applied:
    key = window_key(envelope.id, envelope.epoch)
    seen = shard.window.find(key) if envelope.id != NO_ID else None
    effects: list[Effect] = []
    if isinstance(control, CreateTopic):
        row, verdict = _create(shard, row, record, control, seen)
        effects = [TopicCreated(row)] if verdict.code is Code.CREATED and seen is None and row else []
    elif isinstance(control, DeleteTopic):
        row, verdict, effects = _delete(shard, row, record, envelope, control, seen)
    elif isinstance(control, TopicChange):
        verdict, effects = _topic_change(shard, row, record, envelope, control)
    elif isinstance(control, Logic):
        verdict = _raise_logic(shard, control)
    else:
        verdict = Verdict(Code.IGNORED)
    if seen is None and effects and envelope.id != NO_ID and not isinstance(control, TopicChange):
        shard.window.add(key, verdict.epoch, True, record.offset, shard.log_ms)
    shard.changes += bool(effects)
    return Applied(shard, row, [verdict], effects)


def _topic_change(
    shard: Shard, row: Row | None, record: Record, envelope: Envelope, change: TopicChange
) -> tuple[Verdict, list[Effect]]:
    """Applies a change of members or settings once: its id keeps the first verdict, a refusal too."""
    if shard.logic < MEMBERS_LOGIC:
        raise _Refused("corrupt", f"a change of a topic in a shard of logic {shard.logic}", MEMBERS_LOGIC)
    if row is None:
        return Verdict(Code.NO_TOPIC), []
    if row.epoch != envelope.epoch:
        return Verdict(Code.STALE_EPOCH), []
    key = window_key(envelope.id, envelope.epoch)
    seen = shard.window.find(key) if envelope.id != NO_ID else None
    if seen is not None:
        return repeated(shard, row, record, change, seen), []
    try:
        verdict, effect = change_topic(shard, row, record, change)
    except CorruptRecord as error:
        raise _Refused("corrupt", str(error)) from None
    if envelope.id != NO_ID and verdict.code != Code.CONFLICT:  # one of an older version can never be applied
        shard.window.add(key, int(verdict.code), True, record.offset, shard.log_ms)
    return verdict, [] if effect is None else [effect]


def _raise_logic(shard: Shard, control: Logic) -> Verdict:
    if control.level <= shard.logic:
        return Verdict(Code.IGNORED)
    shard.logic = control.level
    shard.changes += 1
    return Verdict(Code.CONFIGURED)


def _create(
    shard: Shard, row: Row | None, record: Record, control: CreateTopic, seen: int | None
) -> tuple[Row | None, Verdict]:
    if seen is not None:
        return row, Verdict(Code.CREATED, 0, seen or (row.epoch if row else 0))
    if row is not None:
        return row, Verdict(Code.EXISTS, 0, row.epoch)
    _check_place(shard, record, control)
    epoch = make_epoch(shard.generation, record.offset)
    row = Row(
        topic_id=control.topic_id,
        epoch=epoch,
        seq=0,
        name=control.name,
        permissions=control.permissions,
        owner_id=control.owner_id,
        created_at=record.ts,
        settings=dict(control.settings),
    )
    join_both(shard, record.key or b"", row, control.peer_id)
    return row, Verdict(Code.CREATED, 0, epoch)


def _check_place(shard: Shard, record: Record, control: CreateTopic) -> None:
    assert shard.config is not None
    key = record.key or b""
    try:
        check_topic_id(control.topic_id)
        logic = missing_logic(shard, control)
    except Refusal as error:
        raise _Refused("corrupt", error.detail) from None
    except CorruptRecord as error:
        raise _Refused("corrupt", str(error)) from None
    if logic:
        raise _Refused("corrupt", f"a direct topic in a shard of logic {shard.logic}", logic)
    if len(key) > KEY_BYTES:
        raise _Refused("corrupt", f"a key of {len(key)} bytes, at most {KEY_BYTES} are taken")
    if key.rpartition(b"/")[2] != control.topic_id.encode():
        raise _Refused("corrupt", "the key names another topic than the record")
    if shard_of(key, shard.config.shards) != shard.config.shard:
        raise _Refused("wrong_partition", "the key does not hash to this partition: were partitions added?")


def _delete(
    shard: Shard, row: Row | None, record: Record, envelope: Envelope, control: DeleteTopic, seen: int | None
) -> tuple[Row | None, Verdict, list[Effect]]:
    """Deletes the topic where its actor may. The id of a refused deletion is kept in the window too."""
    key, epoch, is_repeat = record.key or b"", envelope.epoch, seen is not None
    verdict = delete_verdict(shard, key, row, control, epoch, is_repeat=is_repeat)
    if row is None or is_repeat:
        return row, verdict, []
    if verdict.code is not Code.DELETED:
        if verdict.code is Code.FORBIDDEN and envelope.id != NO_ID:
            shard.window.add(window_key(envelope.id, epoch), epoch, True, record.offset, shard.log_ms)
        return row, verdict, []
    members = shard.members.pop(key, None)
    shard.changed.drop_topic(key)
    return None, verdict, [TopicDeleted(row.topic_id, row.epoch, row.owner_id, members)]
