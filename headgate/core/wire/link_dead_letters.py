"""Link messages about dead letters: the owner of the topic's shard writes, lists, replays and purges them."""

from typing import Final

from headgate.core.wire.link_struct import LinkStruct
from headgate.core.wire.rights import Caller

MAX_ERROR: Final = 500  # characters of `last_error`


class Receiver(LinkStruct):
    """Whom a delivery was for: a user's device, or a consumer group (then user and device are "")."""

    user_id: str = ""
    device_id: str = ""
    group: str = ""


class GiveUp(LinkStruct, tag=120):
    """A delivery was given up after `attempts`. Answer: GivenUp once the log has the dead letter, or Refused.

    There is one dead letter for each (receiver, topic, epoch, seq); another GiveUp of the same changes nothing, but
    where the letter is being replayed: it then is in the list again.
    """

    req: int
    topic_id: str
    epoch: int
    seq: int
    receiver: Receiver
    attempts: int
    reason: str
    last_error: str = ""


class GivenUp(LinkStruct, tag=121):
    """Answer to GiveUp: the subscription's cursor may pass the message."""

    req: int


class AskDeadLetters(LinkStruct, tag=122):
    """Asks one shard for the dead letters of a topic, or ("") of all that the caller administers, above the id `after`.

    With `id` for that one only, with its message, also while it is being replayed. Answer: DeadLettersAnswer or
    Refused.
    """

    req: int
    shard: int
    topic_id: str
    caller: Caller
    after: str
    limit: int
    id: str = ""


class LetterShown(LinkStruct):
    """A dead letter as the list shows it; `at` is Unix milliseconds.

    `message` is the frame as it is now, b"" in a list and where the message is no longer kept.
    """

    id: str
    topic_id: str
    epoch: int
    seq: int
    message_id: str
    receiver: Receiver
    attempts: int
    reason: str
    last_error: str
    at: int
    replaying: bool = False
    message: bytes = b""


class DeadLettersAnswer(LinkStruct, tag=123):
    """Answer to AskDeadLetters: ascending in id. `more` says that there are others above the last."""

    req: int
    letters: list[LetterShown]
    more: bool = False


class ChangeDeadLetter(LinkStruct, tag=124):
    """Replays a dead letter, or removes it (`purge`). Answer: DeadLetterChanged once the log has it, or Refused."""

    req: int
    shard: int
    id: str
    caller: Caller
    purge: bool = False


class DeadLetterChanged(LinkStruct, tag=125):
    """Answer to ChangeDeadLetter."""

    req: int
    topic_id: str = ""


class WantReplays(LinkStruct, tag=127):
    """A gateway has an acknowledged subscription of a receiver from now on: the owner sends what is replayed to it.

    No answer; a Redeliver for each.
    """

    topic_id: str
    epoch: int
    receiver: Receiver


class Redeliver(LinkStruct, tag=126):
    """The owner sends a message that is replayed to one receiver, to every gateway that hosts the topic.

    The gateway that has the receiver's subscription delivers `frame` with `attempt` 1, and drops one that it delivers
    already; others ignore it. It is sent again to whoever attaches or wants replays, until LetterDone or GiveUp.
    """

    topic_id: str
    epoch: int
    seq: int
    receiver: Receiver
    id: str
    frame: bytes


class LetterDone(LinkStruct, tag=128):
    """A replayed message was acknowledged. No answer: a Redeliver of the same comes again until this was read."""

    topic_id: str
    epoch: int
    id: str


DeadLetterRequest = GiveUp | AskDeadLetters | ChangeDeadLetter
DeadLetterReply = GivenUp | DeadLettersAnswer | DeadLetterChanged
DeadLetterNews = WantReplays | LetterDone  # of a gateway, to the topic's owner
DeadLetterPush = Redeliver  # of the topic's owner, to a gateway
