"""A verdict: the decision of the sequencer about a record or one of its messages, as a code and its numbers."""

import enum

import msgspec


class Code(enum.IntEnum):
    """The decision about one record, or about one item of a bundle."""

    ACCEPTED = 1  # `seq` in topic `epoch`
    DUPLICATE = 2  # `seq` of the first, 0 where only the index knows it
    NO_TOPIC = 3
    STALE_EPOCH = 4  # the topic was recreated after the record was addressed to it
    CREATED = 5  # `epoch` of the topic
    EXISTS = 6  # `epoch` of the topic that exists
    DELETED = 7
    IGNORED = 8
    DEAD = 9  # a dead letter: cannot be decoded, or is not for this shard; `seq` is the logic that it needs, else 0
    CONFIGURED = 10
    UNKNOWN = 11  # never given by `apply`: the owner no longer knows
    MEMBER = 12  # `seq` at which the user joined, `epoch` of the topic
    REMOVED = 13
    UPDATED = 14  # `seq` is the topic's version now
    FORBIDDEN = 15  # the actor's role did not allow it when the record was applied
    LAST_OWNER = 16
    CONFLICT = 17  # decided against another version of the topic or message; `seq` is the present one
    CHANGED = 18  # a message was changed; `seq` is that of the event


class Verdict(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """`code` is a Code, with `seq` and `epoch` where the code gives them (else 0).

    On a link it is the array [code, seq, epoch]. `code` is an int, so that the code of a newer version can be decoded.
    """

    code: int
    seq: int = 0
    epoch: int = 0
