"""The audit log: one line for each control operation, on the logger `audit` (docs/operations.md, Audit log)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from headgate.core.wire.errors import CODES, Refusal
from headgate.core.wire.ids import PRINTABLE_ASCII
from headgate.core.wire.token_buckets import Rate, TokenBuckets
from headgate.runtime.http.call import Call
from headgate.runtime.ports import Clock

logger = structlog.get_logger("audit")

Action = Literal[
    "topic.create",
    "topic.update",
    "topic.delete",
    "topic.flush",
    "member.set",
    "member.remove",
    "message.edit",
    "message.redact",
    "message.react",
    "message.unreact",
    "subscriptions.end",
    "ticket.create",
    "revocation.create",
    "dead_letter.replay",
    "dead_letter.purge",
]

DONE: Final = "ok"
UNFINISHED: Final = "unfinished"  # the process failed or was stopped: only the record tells the outcome
REFUSED_RATE: Final = Rate(1.0, 60.0)
NOT_LOGGED: Final = frozenset({400, 413, 415, 429})  # what was asked could not be read, or was not looked at


@dataclass(slots=True)
class AuditEntry:
    """What is known of an operation so far; the handler adds to it.

    `target` is the user whom it concerns, "" for none. `change` says in a few words what was asked for. `record_id` is
    the id of the control record, "" where none was made.
    """

    topic_id: str = ""
    target: str = ""
    change: str = ""
    record_id: str = ""


class AuditLog:
    """Writes the lines; of refused operations REFUSED_RATE for each user: a stranger must not fill the disk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refused = TokenBuckets()
        self._left_out = 0  # lines of refusals since the last one that was written

    @contextmanager
    def operation(self, call: Call, action: Action, topic_id: str = "", target: str = "") -> Iterator[AuditEntry]:
        """Writes one line at the end of the block: the outcome is `ok`, or the code of the refusal.

        A request that is refused with one of the statuses NOT_LOGGED leaves no line.
        """
        entry = AuditEntry(topic_id, target)
        outcome = UNFINISHED
        try:
            yield entry
            outcome = DONE
        except Refusal as refusal:
            outcome = refusal.code
            raise
        finally:
            if entry.record_id or outcome in (DONE, UNFINISHED):
                self._write(call, action, entry, outcome)
            elif CODES[outcome].status not in NOT_LOGGED:
                self._write_refused(call, action, entry, outcome)

    def _write_refused(self, call: Call, action: Action, entry: AuditEntry, outcome: str) -> None:
        user, now = call.caller.user_id, self._clock.now()
        if self._refused.wait(user, REFUSED_RATE, now):
            self._left_out += 1
            return
        self._refused.take(user, REFUSED_RATE, now)
        left_out, self._left_out = self._left_out, 0
        self._write(call, action, entry, outcome, left_out)

    @staticmethod
    def _write(call: Call, action: Action, entry: AuditEntry, outcome: str, left_out: int = 0) -> None:
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
            left_out=left_out,
        )
