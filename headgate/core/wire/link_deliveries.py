"""Link messages about publishes with `wait=delivered`: how many sockets took a message.

An ingest names the message to its owner before it is published, so that the owner has it counted from the first push.
In front of the message the owner asks every gateway that hosts the topic; each tells its count while it grows.
"""

from typing import Final

from headgate.core.wire.link_struct import LinkStruct

MAX_MESSAGES: Final = 1_000  # of one request: as many as a batch has


class ExpectDeliveries(LinkStruct, tag=102):
    """Messages are about to be published to a topic; their deliveries are to be counted. Answer: Expected or Refused.

    `ids` are at most MAX_MESSAGES message ids, `for_ms` is for how long they may be asked about.
    """

    req: int
    topic_id: str
    epoch: int
    ids: list[bytes]
    for_ms: int


class Expected(LinkStruct, tag=103):
    """Answer to ExpectDeliveries: what is published from now on is counted."""

    req: int


class AskDelivered(LinkStruct, tag=104):
    """Asks how many sockets took a message that was expected. Answer: Delivered or Refused.

    It is answered once all that can take it did, at the latest after `wait_ms`.
    """

    req: int
    topic_id: str
    epoch: int
    id: bytes
    wait_ms: int


class Delivered(LinkStruct, tag=105):
    """Answer to AskDelivered: the count so far, -1 where this owner did not expect the message."""

    req: int
    count: int


class CountWritten(LinkStruct, tag=106):
    """The owner asks a gateway to count who takes message `seq`; with `seq` 0 the next message of the topic.

    It is sent before the message. `watch` names the question on this link; the gateway forgets it after `for_ms`.
    """

    topic_id: str
    epoch: int
    seq: int
    watch: int
    for_ms: int


class Written(LinkStruct, tag=107):
    """A gateway's count for a CountWritten; `done` where nobody else there can take the message any longer."""

    topic_id: str
    watch: int
    count: int
    done: bool


DeliveryRequest = ExpectDeliveries | AskDelivered
DeliveryReply = Expected | Delivered
DeliveryPush = CountWritten | Written
