"""What the sequencer decided about a record or one of its messages: a code and its numbers."""

import enum
from typing import NamedTuple


class Code(enum.IntEnum):
    """What was decided about one record, or one item of a bundle."""

    ACCEPTED = 1  # `seq` in topic `epoch`
    DUPLICATE = 2  # `seq` of the first, 0 where only the index knows it
    NO_TOPIC = 3
    STALE_EPOCH = 4  # the topic was created again since the record was decided
    CREATED = 5  # `epoch` of the topic
    EXISTS = 6  # `epoch` of the topic that stands
    DELETED = 7
    IGNORED = 8
    DEAD = 9  # undecodable or not for this shard: a dead letter
    CONFIGURED = 10
    UNKNOWN = 11  # never given by `apply`: the owner no longer knows
    MEMBER = 12  # `seq` at which the user joined, `epoch` of the topic
    REMOVED = 13
    UPDATED = 14  # `seq` is the topic's version now
    FORBIDDEN = 15  # the actor's role did not allow it when the record was applied
    LAST_OWNER = 16
    CONFLICT = 17  # decided against another version of the topic; `seq` is the present one


class Verdict(NamedTuple):
    """`code`, and `seq` and `epoch` where the code gives them (else 0)."""

    code: Code
    seq: int = 0
    epoch: int = 0
