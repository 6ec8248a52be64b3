"""Link version 1: the messages between a gateway or ingest (the client) and a dispatcher; knows no transport.

A link carries batches: one WebSocket message is the msgpack array of one or more of these structs, in order. Requests
have a `req`, chosen by the client and unique on its link; the answer repeats it and comes **in band**: everything that
was sent before it concerns the time before the answer, everything after it the time after. A client that reads
`Subscribed(seq=n)` will therefore get every message from n+1 on, and none below it, without asking again.
"""

from typing import Any, Final

import msgspec

from headgate.core.wire.position import Position
from headgate.core.wire.rights import Caller

VERSION_LOW: Final = 1
VERSION_HIGH: Final = 1
PAGE_BYTES: Final = 256 * 1024  # one page of frames: a few milliseconds of either end's loop
PAGE_COUNT: Final = 1_000


class _Wire(msgspec.Struct, array_like=True, gc=False):
    """All of them are arrays on the wire; new fields are appended with a default, so N reads N+1."""


class Owner(_Wire):
    """Who owns a shard. With `served` the sender itself: live under its claim's `epoch`, or no more (0).

    Otherwise a hint: the newest claim the sender has read, and the `address` where that node's links listen.
    """

    shard: int
    epoch: int
    address: str
    served: bool = False


class Hello(_Wire, tag=1):
    """First message of the client: the versions it speaks, and the cluster it knows ("" and 0 at its first link)."""

    low: int
    high: int
    role: str
    node: str
    cluster_id: str
    generation: int


class Welcome(_Wire, tag=2):
    """First message of the dispatcher: the version both will speak, and what it knows of the owners."""

    version: int
    node: str
    cluster_id: str
    generation: int
    shards: int
    owners: list[Owner]


class Owners(_Wire, tag=3):
    """The dispatcher's knowledge of owners changed; only the changed shards are listed."""

    owners: list[Owner]


class Refuse(_Wire, tag=4):
    """The client knows a higher epoch for this shard: evidence for the receiver that it owns it no more."""

    shard: int
    epoch: int


class AttachTopic(_Wire):
    """A topic the gateway hosts: its `epoch`, `cursor` (the last seq it has; 0 for an ephemeral one), subscribers."""

    topic_id: str
    epoch: int
    cursor: int
    count: int


class Attach(_Wire, tag=10):
    """The gateway announces what it hosts of a shard, in chunks; `last` on the final one, which may be empty.

    The owner forgets what it knew of this gateway's subscriptions in the shard at the `first` chunk, sends what is
    missing above each cursor and then live, `Ended` for topics that are no more, and answers `last` with Attached.
    """

    shard: int
    first: bool
    last: bool
    topics: list[AttachTopic]


class Attached(_Wire, tag=11):
    """The owner has taken all chunks. `epoch` is its claim's."""

    shard: int
    epoch: int


class AskSubscribe(_Wire, tag=12):
    """One more subscription on this gateway. Answer: Subscribed or Refused.

    `position` is what the client asked for, as `headgate.core.wire.position.Position` (None: live). With `create` an
    unknown topic is made, if the caller may.
    """

    req: int
    topic_id: str
    caller: Caller
    position: Position | None = None
    create: bool = False


class Subscribed(_Wire, tag=13):
    """The route stands. The subscription begins above `cursor`; live is above `seq`.

    `first_seq` is the oldest seq kept (0 in an ephemeral topic). `resumed` is None where no position was given. A
    `cursor` above the position that was asked for, with reason `expired`, is a gap from position+1 to `cursor`.
    `settings` are the topic's effective settings.
    """

    req: int
    topic_id: str
    epoch: int
    seq: int
    first_seq: int
    cursor: int
    count: int
    resumed: bool | None
    reason: str | None
    settings: dict[str, Any]


class Leave(_Wire, tag=14):
    """`count` subscriptions of this gateway to the topic ended. No answer."""

    topic_id: str
    epoch: int
    count: int = 1


class Fetch(_Wire, tag=15):
    """Frames above `after_seq`, for one parked session. Answer: Page or Refused."""

    req: int
    topic_id: str
    epoch: int
    after_seq: int
    max_count: int = PAGE_COUNT
    max_bytes: int = PAGE_BYTES


class Page(_Wire, tag=16):
    """Frames with consecutive seqs from `seq` on; `first_seq` is the oldest kept now.

    `seq` above `after_seq`+1 means that what lies between is gone (retention). No frames: nothing above `after_seq`.
    """

    req: int
    topic_id: str
    epoch: int
    first_seq: int
    seq: int
    ts: list[int]
    frames: list[bytes]


class Messages(_Wire, tag=17):
    """Live messages of a durable topic, once per gateway: consecutive seqs from `seq` on, with their append times."""

    topic_id: str
    epoch: int
    seq: int
    ts: list[int]
    frames: list[bytes]


class EphemeralMessages(_Wire, tag=18):
    """Live messages of an ephemeral topic, with the owner's times."""

    topic_id: str
    epoch: int
    ts: list[int]
    frames: list[bytes]


class Ended(_Wire, tag=19):
    """The topic's subscriptions on this gateway end (`deleted`); the route is gone."""

    topic_id: str
    epoch: int
    reason: str


class Changed(_Wire, tag=20):
    """What an ingest may have cached of this topic is out of date."""

    topic_id: str


class Authorize(_Wire, tag=21):
    """Asks whether a live subscription may go on with its user's new rights. Answer: Authorized or Refused."""

    req: int
    topic_id: str
    epoch: int
    caller: Caller


class Authorized(_Wire, tag=22):
    """It may."""

    req: int


class AskTopic(_Wire, tag=30):
    """Asks for one topic as the caller may see it. Answer: TopicAnswer or Refused."""

    req: int
    topic_id: str
    caller: Caller


class TopicInfo(_Wire):
    """A topic as others see it; `settings` are effective, `created_at` Unix milliseconds."""

    topic_id: str
    epoch: int
    seq: int
    name: str
    permissions: str
    owner_id: str
    created_at: int
    subscriber_count: int
    member_count: int
    mode: str
    settings: dict[str, Any]


class TopicAnswer(_Wire, tag=31):
    """Answer to AskTopic."""

    req: int
    info: TopicInfo


class AskTopics(_Wire, tag=32):
    """Asks one shard for the topics the caller may see: ids that begin with `prefix`, above `after`, ascending."""

    req: int
    shard: int
    caller: Caller
    prefix: str
    after: str
    limit: int


class TopicsAnswer(_Wire, tag=33):
    """Answer to AskTopics."""

    req: int
    topics: list[TopicInfo]


class AskCount(_Wire, tag=34):
    """Asks how many subscriptions each topic of one shard has now. Answer: Counts, in the same order."""

    req: int
    shard: int
    topic_ids: list[str]


class Counts(_Wire, tag=35):
    """Answer to AskCount."""

    req: int
    counts: list[int]


class AskVerdict(_Wire, tag=36):
    """Asks what `apply` decided about a record; answered once the owner has applied it. Answer: Verdicts or Refused.

    The answer lists the record's verdicts: one for a message or control record, one an item for a bundle.
    """

    req: int
    shard: int
    offset: int


class Verdict(_Wire):
    """What `apply` decided: `code` is a `headgate.core.wire.verdict.Code`, `seq` and `epoch` where it gives them."""

    code: int
    seq: int
    epoch: int


class Verdicts(_Wire, tag=37):
    """Answer to AskVerdict."""

    req: int
    verdicts: list[Verdict]


class AskHistory(_Wire, tag=38):
    """Asks for a page of history; the fields are the query's (PROTOCOL section 2), -1 where not given."""

    req: int
    topic_id: str
    caller: Caller
    after_seq: int
    before_seq: int
    since_ts: int
    limit: int


class HistoryPage(_Wire, tag=39):
    """Answer to AskHistory: the frames ascending in seq, and what the topic keeps in all."""

    req: int
    epoch: int
    first_seq: int
    last_seq: int
    complete: bool
    frames: list[bytes]


class Relay(_Wire, tag=40):
    """A publish to an ephemeral topic: `tail` as in a message record. Answer: Relayed or Refused."""

    req: int
    topic_id: str
    epoch: int
    tail: bytes
    low: bool = False


class Relayed(_Wire, tag=41):
    """Answer to Relay: how many subscriptions the owner knew when it passed the message on."""

    req: int
    count: int


class Refused(_Wire, tag=50):
    """A request was refused with one of the protocol's codes; `extra` are further members of the answer.

    `not_ready` from a dispatcher that does not own the shard means: look at the owner map and ask again.
    """

    req: int
    code: str
    detail: str
    extra: dict[str, Any] = {}


Message = (
    Hello | Welcome | Owners | Refuse | Attach | Attached | AskSubscribe | Subscribed | Leave | Fetch | Page
    | Messages | EphemeralMessages | Ended | Changed | Authorize | Authorized | AskTopic | TopicAnswer | AskTopics
    | TopicsAnswer | AskCount | Counts | AskVerdict | Verdicts | AskHistory | HistoryPage | Relay | Relayed | Refused
)  # fmt: skip
Request = AskSubscribe | Fetch | Authorize | AskTopic | AskTopics | AskCount | AskVerdict | AskHistory | Relay
Answer = (
    Subscribed | Page | Authorized | TopicAnswer | TopicsAnswer | Counts | Verdicts | HistoryPage | Relayed | Refused
)
