"""Link messages about publishes with `wait=delivered`: how many sockets took a message.

An ingest names the message to its owner before it is published, so that the owner has it counted from the first push.
In front of the message the owner asks every gateway that hosts the topic; each tells its count while it grows.
"""

from typing import Final

from headgate.core.wire.link_struct import LinkStruct

COUNTED_S: Final = 20.0  # how long a message is counted: a publish is answered within 7 s, and waits 10 s at most
MAX_MESSAGES: Final = 1_000  # of one request: as many as a batch has
NOT_COUNTED: Final = -1  # a count that nobody can say


class ExpectDeliveries(LinkStruct, tag=102):
    """Messages are about to be published to a topic; their deliveries are to be counted.

    Answer: DeliveriesExpected or Refused. `ids` are at most MAX_MESSAGES message ids; they are forgotten with
    ForgetDeliveries, or after COUNTED_S.
    """

    req: int
    topic_id: str
    epoch: int
    ids: list[bytes]


class DeliveriesExpected(LinkStruct, tag=103):
    """Answer to ExpectDeliveries: what is published from now on is counted."""

    req: int


class AskDelivered(LinkStruct, tag=104):
    """Asks how many sockets took a message that was expected. Answer: Delivered or Refused.

    It is answered once all that can take it did, at the latest `wait_ms` after it was sent to the gateways.
    """

    req: int
    topic_id: str
    epoch: int
    id: bytes
    wait_ms: int


class Delivered(LinkStruct, tag=105):
    """Answer to AskDelivered: the count so far, NOT_COUNTED where this owner or a gateway has not counted it."""

    req: int
    count: int


class CountWritten(LinkStruct, tag=106):
    """The owner asks a gateway to count who takes message `seq`; with `seq` 0 the next message of the topic.

    It is sent before the message. `watch` is the owner's number of the message; the gateway forgets it after COUNTED_S.
    """

    topic_id: str
    epoch: int
    seq: int
    watch: int


class Written(LinkStruct, tag=107):
    """A gateway's count for a CountWritten; `done` where nobody else there can take the message any longer.

    NOT_COUNTED, and `done`, where it counts too many already: then nobody can say how many took the message.
    """

    topic_id: str
    watch: int
    count: int
    done: bool


class ForgetDeliveries(LinkStruct, tag=108):
    """The ingest that expected these messages asks no more about them. No answer."""

    topic_id: str
    epoch: int
    ids: list[bytes]


DeliveryRequest = ExpectDeliveries | AskDelivered
DeliveryReply = DeliveriesExpected | Delivered
DeliveryPush = CountWritten | Written | ForgetDeliveries
