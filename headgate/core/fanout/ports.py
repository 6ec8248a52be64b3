"""The gateway core's ports: sockets, the owners of shards, acknowledgements, the metrics, and the reader of tokens."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from headgate.core.fanout.feed import Piece, Write
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Message, Request
from headgate.core.wire.rights import Identity


class Moment(msgspec.Struct, frozen=True, gc=False):
    """The time of a call: `now` in monotonic seconds, `wall_ms` in Unix milliseconds."""

    now: float
    wall_ms: int


class Acks(Protocol):
    """The acknowledgements of a subscription: `headgate.core.fanout.subscription_acks`."""

    def may_send(self) -> bool:
        """Sets the subscription's cursor to where the window is; returns whether a message above it may be sent now."""

    def take(self, piece: Piece) -> list[bytes]:
        """Notes that as much of a piece is sent as the window takes; returns the frames to write."""

    def take_back(self, seq: int) -> None:
        """The new messages from `seq` on were not written after all."""

    def lose(self, seq: int) -> None:
        """The messages up to `seq` are kept no longer, and a gap frame said so."""

    @property
    def newest(self) -> int:
        """The number of the newest message that was sent."""

    @property
    def place(self) -> int:
        """The number of the message before the one that is sent next."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing failed and nothing comes again."""


class Outlet(Protocol):
    """The socket of a session. No method waits, and none calls back but `write`, which may cause a park."""

    @property
    def write(self) -> Write:
        """The function that takes a frame's bytes: the transport's own where there is one."""

    def queued(self) -> int:
        """Returns the bytes the socket has not yet taken."""

    def end(self, code: int, reason: str) -> None:
        """Ends the connection in the framing's way (a close frame, the end of the body)."""

    def refuse(self, refusal: Refusal) -> None:
        """Answers an SSE request that never became a stream with an HTTP status."""


class Upstream(Protocol):
    """Requests to the owners of shards: the part of `headgate.runtime.links.port.Directory` that the core uses."""

    shards: int

    def shard_of(self, topic_id: str) -> int:
        """Returns the shard of a topic. Raises Refusal `not_ready` while the number of shards is not known."""

    def shard_of_user(self, user_id: str) -> int:
        """Returns the shard of a user. Raises Refusal `not_ready` while the number of shards is not known."""

    def linked(self, shard: int) -> bool:
        """Returns whether the shard's owner is linked."""

    def request(self, shard: int, build: Callable[[int], Request], on_answer: Callable[[Answer], None]) -> None:
        """Sends a request; `on_answer` is called once, in the order of the link's messages."""

    def send(self, shard: int, message: Message) -> None:
        """Sends a message that has no answer."""


class GatewayMetrics(Protocol):
    """The metrics of a gateway; called per topic and flush, never per delivery."""

    def delivered(self, profile: str, count: int, seconds: float) -> None:
        """Counts `count` message frames written `seconds` after their append."""

    def gap(self, reason: str, count: int, *, missed: bool) -> None:
        """Counts messages that a gap frame named. `missed`: durable ones that it would have got, had all been well."""

    def lifecycle_events(self, name: str, count: int) -> None:
        """Counts what happened to acknowledged deliveries."""

    def sliced(self, seconds: float) -> None:
        """Counts a slice of the sweeps over large topics, which held the loop so long."""

    def swept(self, seconds: float) -> None:
        """Counts a sweep over a large topic: so long after the append of a piece's oldest message all had it."""

    def redelivered(self, count: int) -> None:
        """Counts message frames that were sent again."""

    def link_messages(self, direction: str, count: int) -> None:
        """Counts messages that came over a link."""

    def refused(self, code: str, detail: str) -> None:
        """Counts a refusal to a client."""


class TokenReader(Protocol):
    """The part of an authenticator that a live connection needs. With `open` credentials are ignored."""

    open: bool

    def authenticate(self, token: str) -> Identity:
        """Returns the identity of a token. Raises Refusal `unauthenticated` or `token_expired`."""
