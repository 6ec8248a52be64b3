"""The seqs of duplicates that the window does not know any longer, from the history."""

from collections.abc import Sequence
from typing import Final

from dispatcher.history import History
from headgate.core.sequencer.window import SEQ_UNKNOWN
from headgate.core.wire.envelope import decode
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code, Verdict

_DUPLICATE: Final = int(Code.DUPLICATE)  # a global is found faster than an attribute of an enumeration


def with_seqs(history: History, record: Record, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Returns the verdicts of a record, with the seq of each duplicate that the history knows."""
    for verdict in verdicts:
        if verdict.code == _DUPLICATE and verdict.seq == SEQ_UNKNOWN:
            return _found(history, record, verdicts)
    return verdicts


def _found(history: History, record: Record, verdicts: Sequence[Verdict]) -> list[Verdict]:
    envelope = decode(record.value or b"")
    ids = [item.id for item in envelope.items] or [envelope.id]
    return [
        Verdict(v.code, history.seq_of(record_id, v.epoch) or SEQ_UNKNOWN, v.epoch) if v.seq == SEQ_UNKNOWN else v
        for v, record_id in zip(verdicts, ids, strict=True)
    ]
