"""Link messages about publishes to ephemeral topics, which go over links only."""

from headgate.core.wire.link_struct import LinkStruct


class Relay(LinkStruct, tag=40):
    """A publish to an ephemeral topic: `tail` as in a message record. Answer: Relayed or Refused.

    `unmetered`: the caller has no rates, so it does not count against the topic's. `id` is the message's where its
    deliveries are counted (ExpectDeliveries), else empty.
    """

    req: int
    topic_id: str
    epoch: int
    tail: bytes
    low: bool = False
    unmetered: bool = False
    id: bytes = b""


class Relayed(LinkStruct, tag=41):
    """Answer to Relay: the number of subscriptions that the owner sent the message to.

    With `shed` it was sent to none: the owner is overloaded, and the message was of priority LOW.
    """

    req: int
    count: int
    shed: bool = False
