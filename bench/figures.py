"""The figures that sums about an installation begin with: measured ones with their commands, and encoded sizes."""

from typing import Final, NamedTuple

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.publish.body import frame_tail, read_publish
from headgate.core.wire.envelope import Item, encode_message
from headgate.core.wire.frames import message_frame
from headgate.core.wire.inbox_record import HeadEntry, encode_head

EPOCH: Final = (1 << 44) | 1_764_200_000_000
NOW_MS: Final = 1_764_200_000_000
DAY_S: Final = 86_400
REPLICAS: Final = 3
KEPT_DAYS: Final = 7
PEAK: Final = 10  # times the average: requirements name 578/s on average and up to 6,000/s
BUSY: Final = 0.5  # the part of a core that is planned with
PER_PROCESS: Final = 10_000  # connections of a gateway process; so many were measured idle
OBJECT_BYTES: Final = 1_024  # of a payload
INDEX_FACTOR: Final = 1.5  # bytes of the history index for each byte of frames
INDEX_BYTES: Final = 6 * 2**30  # of a shard's index at most


class Figure(NamedTuple):
    """A measured figure: its value, what it is, and the command that measures it."""

    value: float
    what: str
    command: str


PUBLISH_US: Final = Figure(140, "us of CPU of an ingest for a publish over HTTP", "docs/project/performance.md")
NUMBER_US: Final = Figure(16.5, "us of CPU of an owner for a message, index included", "python -m bench.sequencer")
WRITE_US: Final = Figure(5.4, "us of CPU of a gateway for a delivery of its own write", "python -m bench.fanout")
CONNECT_US: Final = Figure(136, "us of CPU of a gateway for a connect and subscribe", "python -m bench.fanout")
CONNECTION: Final = Figure(2_050, "bytes of an idle connection in a gateway", "python -m bench.fanout")
TOPIC: Final = Figure(997, "bytes of a topic at its owner", "python -m bench.topics")
MEMBER: Final = Figure(105, "bytes of a member at the topic's owner", "python -m bench.members")
MEMBERSHIP: Final = Figure(520, "bytes of a membership at the user's owner", "python -m bench.inbox_rows")
HEAD: Final = Figure(240, "bytes of a head at the user's owner", "python -m bench.inbox_rows")
CURSOR: Final = Figure(192, "bytes of a device's cursor", "python -m bench.cursors")
MARK: Final = Figure(210, "bytes of a read mark", "python -m bench.inbox_rows")
PRESENT: Final = Figure(300, "bytes of a user in a list of presence", "python -m bench.presence_owner")
FIGURES: Final = (
    PUBLISH_US, NUMBER_US, WRITE_US, CONNECT_US, CONNECTION, TOPIC, MEMBER, MEMBERSHIP, HEAD, CURSOR, MARK, PRESENT,
)  # fmt: skip
LINK_US: Final = Figure(45, "us of CPU a second for an idle end of a link (pings)", "python -m bench.links")
COPY_US: Final = Figure(28.4, "us of CPU of an end of a link for a message alone in its batch", "python -m bench.links")
MORE_US: Final = Figure(3.7, "us of CPU of an end of a link for one of 20 in a batch", "python -m bench.links")
LINK: Final = Figure(22_800, "bytes of an end of a link", "python -m bench.links")
INGEST: Final = Figure(81e6, "bytes of an ingest process under load", "python -m bench.hot")
GATEWAY: Final = Figure(83e6, "bytes of a gateway process with 2,500 connections", "python -m bench.hot")
DISPATCHER: Final = Figure(98e6, "bytes of a dispatcher process with few topics", "python -m bench.batches --kafka")
KAFKA_BYTES: Final = Figure(110e6, "bytes a second into one broker: 1 KiB values", "docs/project/performance.md")


class Sizes(NamedTuple):
    """Bytes of one message in each place, and of one head in a pointer bundle."""

    record: int
    frame: int
    sse: int
    head: int


def sizes(payload: int = OBJECT_BYTES) -> Sizes:
    """Encodes a message with a payload of so many bytes, and a head, as the services do."""
    body = read_publish(b'{"payload":"%b"}' % (b"x" * max(payload - 2, 0)), 2 * payload + 1_024)
    tail = frame_tail(bytes(range(16)), "user-1234567", body)
    frame = message_frame("channel:1234567", 123_456, NOW_MS, tail)
    return Sizes(
        record=len(encode_message(Item(bytes(range(16)), 0, tail), EPOCH)),
        frame=len(WEBSOCKET.messages(EPOCH, 123_456, [frame])),
        sse=len(SSE.messages(EPOCH, 123_456, [frame])),
        head=len(encode_head(HeadEntry("channel:1234567", EPOCH, 123_456, 123_000, NOW_MS))),
    )


def state_bytes(topics: float, memberships: float) -> float:
    """Returns the bytes that dispatchers hold for topics, and for memberships with a cursor and a read mark each."""
    each = MEMBER.value + MEMBERSHIP.value + HEAD.value + CURSOR.value + MARK.value
    return topics * TOPIC.value + memberships * each


def gb(amount: float) -> str:
    """Returns bytes for people."""
    return f"{amount / 1e9:,.1f} GB" if amount < 1e12 else f"{amount / 1e12:,.2f} TB"


def mbit(amount: float) -> str:
    """Returns bytes a second for people, as Mbit/s."""
    return f"{amount * 8 / 1e6:,.0f} Mbit/s"
