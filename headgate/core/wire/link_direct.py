"""Link messages about direct topics: what a shard has to know before one may be created in it."""

from headgate.core.wire.link_struct import LinkStruct


class AskLogic(LinkStruct, tag=100):
    """Asks for the meaning of records in a shard (`headgate.core.wire.control.LOGIC`). Answer: ShardLogic or Refused.

    A topic's answer tells it too; this asks before the first record about a topic that does not exist yet.
    """

    req: int
    shard: int


class ShardLogic(LinkStruct, tag=101):
    """Answer to AskLogic."""

    req: int
    logic: int


DirectRequest = AskLogic
DirectReply = ShardLogic
