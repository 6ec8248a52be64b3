"""The audit log: one line for each control operation, on the logger `audit` (docs/operations.md, Audit log)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import PRINTABLE_ASCII
from headgate.runtime.http.call import Call

logger = structlog.get_logger("audit")

Action = Literal[
    "topic.create", "topic.update", "topic.delete", "member.set", "member.remove", "subscriptions.end"
]  # fmt: skip

DONE: Final = "ok"
UNFINISHED: Final = "unfinished"  # the process failed or was stopped: only the record tells the outcome
NOT_LOGGED: Final = frozenset({400, 413, 415, 429})  # what was asked could not be read, or was not looked at


@dataclass(slots=True)
class Entry:
    """What is known of an operation so far; the handler adds to it.

    `target` is the user whom it concerns, "" for none. `change` says in a few words what was asked for. `record_id` is
    the id of the control record, "" where none was made.
    """

    topic_id: str = ""
    target: str = ""
    change: str = ""
    record_id: str = ""


@contextmanager
def operation(call: Call, action: Action, topic_id: str = "", target: str = "") -> Iterator[Entry]:
    """Logs one line at the end of the block: the outcome is `ok`, or the code of the refusal.

    A request that is refused with one of the statuses NOT_LOGGED leaves no line.
    """
    entry = Entry(topic_id, target)
    outcome: str | None = UNFINISHED
    try:
        yield entry
        outcome = DONE
    except Refusal as refusal:
        outcome = None if refusal.status in NOT_LOGGED else refusal.code
        raise
    finally:
        if outcome is not None:
            _write(call, action, entry, outcome)


def _write(call: Call, action: Action, entry: Entry, outcome: str) -> None:
    request_id = call.request_id.decode("latin-1")
    logger.info(
        action,
        user=call.caller.user_id,
        topic=entry.topic_id,
        target=entry.target,
        change=entry.change,
        outcome=outcome,
        peer=call.peer,
        request_id=request_id if PRINTABLE_ASCII.fullmatch(request_id) else "",
        record_id=entry.record_id,
    )
