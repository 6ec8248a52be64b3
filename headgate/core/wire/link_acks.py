"""Link messages about acknowledged subscriptions: cursors at the owner of the user's shard, and who holds one.

A cursor belongs to (user, device, topic). Who subscribes with `ack` leases it: the owner has one lease of each, and the
newer takes over. Leases are soft: gateways announce them to a new owner. Cursors are durable: they are records of the
inbox log, merged by maximum, so late and repeated ones change nothing.
"""

from typing import Final

from headgate.core.wire.link_struct import LinkStruct

WINDOW: Final = 256  # messages of a subscription that are not acknowledged
MAX_CURSORS: Final = 500  # of one MoveCursors
LEASES: Final = 1_000  # of one chunk of AttachCursors


class Cursor(LinkStruct):
    """How far a device has come in a topic: all messages up to `seq` were acknowledged or given up.

    `above` are seqs above it that were acknowledged while an earlier one waits for its retry, ascending. `attempts` are
    (seq, deliveries so far) of messages above `seq` that failed. Both have at most WINDOW entries. The merge of two:
    the higher epoch, then the higher `seq`, then both lists together, the higher number of attempts, without what is
    not above `seq`.
    """

    user_id: str
    device_id: str
    topic_id: str
    epoch: int
    seq: int
    above: list[int] = []  # noqa: RUF012 - msgspec copies it
    attempts: list[tuple[int, int]] = []  # noqa: RUF012


class CursorLease(LinkStruct):
    """Who acknowledges a topic for a device now; `opened_ms` (Unix milliseconds) is when the subscription began.

    Of two leases the one with the higher (opened_ms, connection_id) holds.
    """

    user_id: str
    device_id: str
    topic_id: str
    connection_id: str
    opened_ms: int


class OpenCursor(LinkStruct, tag=110):
    """Asks for a device's cursor in a topic; with `lease` the subscription takes it over.

    Answer: CursorAnswer or Refused. With `lease` the owner first ends the subscription that holds the lease
    (ReplaceSubscription) and waits for its cursor, at most 2 s. Where a newer one holds it: `already_subscribed`.
    """

    req: int
    user_id: str
    device_id: str
    topic_id: str
    lease: CursorLease | None = None


class CursorAnswer(LinkStruct, tag=111):
    """Answer to OpenCursor: the cursor, None where none is stored.

    `joined_epoch` and `joined_seq` are those of the user's membership of the topic, 0 where he is no member.
    """

    req: int
    cursor: Cursor | None
    joined_epoch: int = 0
    joined_seq: int = 0


class MoveCursors(LinkStruct, tag=112):
    """Stores at most MAX_CURSORS cursors of a shard's users. Answer: CursorsMoved once the log has them, or Refused."""

    req: int
    shard: int
    cursors: list[Cursor]


class CursorsMoved(LinkStruct, tag=113):
    """Answer to MoveCursors: the log has them."""

    req: int


class AttachCursors(LinkStruct, tag=114):
    """The gateway announces its leases of a shard to a new owner, in chunks; `last` on the final one. No answer.

    At the `first` chunk the owner forgets this gateway's leases in the shard. They go before the `AttachUsers` of the
    shard: once the owner has heard the users of all gateways it gives new leases.
    """

    shard: int
    first: bool
    last: bool
    leases: list[CursorLease]


class ReleaseCursor(LinkStruct, tag=115):
    """The subscription ended: its lease is free. No answer. Its last cursor was sent before, in a MoveCursors."""

    user_id: str
    device_id: str
    topic_id: str
    connection_id: str


class ReplaceSubscription(LinkStruct, tag=116):
    """The owner asks a gateway to end a subscription, `replaced`: another session of the device has taken over.

    Answer: SubscriptionReplaced. With `req` 0 nobody waits for it: the lease was announced late and had lost.
    """

    req: int
    lease: CursorLease


class SubscriptionReplaced(LinkStruct, tag=117):
    """Answer to ReplaceSubscription: where the subscription was; None where there is none."""

    req: int
    cursor: Cursor | None


CursorRequest = OpenCursor | MoveCursors
CursorReply = CursorAnswer | CursorsMoved
CursorAnnouncement = AttachCursors | ReleaseCursor  # of a gateway, to the owner of a user's shard
CursorQuestion = ReplaceSubscription  # of that owner, to a gateway; the answer is SubscriptionReplaced
