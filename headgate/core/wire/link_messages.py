"""Link messages about single messages of a topic: read one, ask whether it may be changed, tell how it is now."""

from headgate.core.wire.link_struct import LinkStruct
from headgate.core.wire.rights import Caller


class AskMessage(LinkStruct, tag=80):
    """Asks the owner of `message_id`'s shard about one message. Answer: MessageAnswer or Refused.

    `topic_id` may be "": the id alone names the message. `purpose` is what the caller wants: `read`, `edit`, `redact`,
    `react`, `unreact`, `reply` (it is the parent of a publish), `reposition` (nothing but its topic and seq); the owner
    refuses what the caller may not do, and what cannot be done: `topic_not_found`, `message_not_found`, `forbidden`,
    `not_in_profile`, `limit_reached` (reactions), `immutable` (it is too old to be edited, or redacted and reacted to),
    `not_ready` (the index cannot answer yet). `name` is the reaction.
    """

    req: int
    shard: int
    topic_id: str
    caller: Caller
    message_id: bytes
    purpose: str
    name: str = ""
    versions: bool = False


class MessageVersion(LinkStruct):
    """An earlier or the present payload of a message; `edited_at` is Unix milliseconds, 0 for the first version."""

    version: int
    payload: bytes
    edited_at: int


class MessageAnswer(LinkStruct, tag=81):
    """Answer to AskMessage: the message as it is now.

    `frame` is the message frame. `pos` is its place in the log, `version` its present version from 1 on. `settled`
    means that the log needs no record: it is redacted already, or the reaction is there (or gone) already. `own` says
    that the caller published it. `logic` is the meaning of records in the shard.
    """

    req: int
    topic_id: str
    epoch: int
    seq: int
    pos: int
    version: int
    redacted: bool
    own: bool
    settled: bool
    logic: int
    frame: bytes
    versions: list[MessageVersion]


class Amended(LinkStruct, tag=25):
    """A message of a topic that the gateway hosts is now `frame`; sent before the event that changed it.

    A gateway replaces what it holds of message `seq` and has not written yet. `redacted`: it blanks the edits of the
    message too. Where the owner has not got the message at hand, or the link no room, `frame` is empty: the gateway
    blanks what it holds of a redacted message, and forgets what it holds up to any other, to ask for it again.
    """

    topic_id: str
    epoch: int
    seq: int
    frame: bytes
    redacted: bool = False


MessageRequest = AskMessage
MessageReply = MessageAnswer
MessagePush = Amended
