"""Where a subscription begins that asks for its device's cursor: the owner of the user's shard is asked first."""

from msgspec import structs

from headgate.core.fanout.pending import PendingSubscribe
from headgate.core.wire.link import Subscribed
from headgate.core.wire.link_acks import CursorAnswer, CursorLease, OpenCursor
from headgate.core.wire.position import CURSOR, Position


def begin(pending: PendingSubscribe, user_id: str, at_ms: int) -> None:
    """A subscribe with `ack` came at `at_ms` (Unix milliseconds); it may wait for its owner, and stays as old as it is."""
    wanted = pending.subscribe
    if wanted.ack and pending.lease is None:
        connection_id = pending.session.connection_id
        pending.lease = CursorLease(user_id, wanted.device_id, wanted.topic_id, connection_id, at_ms)


def question(pending: PendingSubscribe, user_id: str, req: int) -> OpenCursor:
    """Returns the request; with `ack` it takes the lease."""
    wanted = pending.subscribe
    return OpenCursor(req, user_id, wanted.device_id, wanted.topic_id, pending.lease)


def place(pending: PendingSubscribe, answer: CursorAnswer) -> None:
    """Takes the cursor, and makes a position of it where the client asked for it."""
    position = pending.subscribe.position
    if position is not None and position.form == CURSOR:
        if answer.cursor is not None:
            position = Position("seq", answer.cursor.epoch, answer.cursor.seq)
        elif answer.joined_epoch:
            position = Position("seq", answer.joined_epoch, answer.joined_seq)
        else:
            position = None
    pending.open(answer, position)


def answer_of(pending: PendingSubscribe, answer: Subscribed) -> Subscribed:
    """Returns the grant as the client is told it: where there was no cursor, nothing was resumed."""
    position, opened = pending.subscribe.position, pending.opened
    if position is None or position.form != CURSOR or opened is None or opened.cursor is not None:
        return answer
    reason = "no_cursor" if answer.resumed in (True, None) else answer.reason
    if answer.settings.get("profile") == "ephemeral":
        reason = "ephemeral"
    return structs.replace(answer, resumed=False, reason=reason)
