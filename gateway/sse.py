"""A request for an SSE stream (docs/protocol.md, section 5): its checks in their order, and its socket."""

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway.head import Head
from gateway.server_shared import ServerShared
from gateway.sse_head import stream_begin, stream_head
from gateway.stream import Stream
from headgate.core.client import inbound
from headgate.core.client.framing import SSE
from headgate.core.client.inbound import Subscribe
from headgate.core.fanout.pending import other_topic
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime.http.answers import Header, problem_answer
from headgate.runtime.http.cors import cors_headers
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.queries import too_many_fields

_EVENT_ID: Final = re.compile(r"[0-9]{1,16}:[0-9]{1,16}")


def open_sse(shared: ServerShared, transport: asyncio.Transport, head: Head, topic_id: str | None) -> None:
    """Takes a connection with a GET or HEAD of a stream path and answers it.

    `topic_id` is the topic that the path names, None where the query names it.
    """
    cors = cors_headers(shared.origins, head.headers.get("origin"), head.headers.get("host"))
    stream = SseStream(shared, transport, cors)
    try:
        _check_page(head, shared.origins, is_open=shared.sessions.is_open)
        stream.start(head, topic_id)
    except Refusal as refusal:
        shared.sessions.refused(refusal)
        stream.refuse(refusal, body=head.method != "HEAD")


class SseStream(Stream):
    """The protocol of an SSE stream. Bytes that the client sends after its request have no meaning."""

    __slots__ = ("_cors",)

    def __init__(self, shared: ServerShared, transport: asyncio.Transport, cors: Sequence[Header]) -> None:
        """`cors` are headers for the answer."""
        super().__init__(shared, transport)
        self._cors = cors

    def start(self, head: Head, topic_id: str | None) -> None:
        """Checks the request in the order of docs/protocol.md, section 0, and subscribes.

        The answer is written when the owner has granted the subscription.
        """
        sessions = self.shared.sessions
        if head.method == "GET" and sessions.busy() is not None:
            sessions.turn_away(self._begin())  # a stream that ends at once, so that an EventSource comes back
            return
        sessions.callers.identify(head, partial(self._known, head, topic_id))

    def _known(self, head: Head, topic_id: str | None, caller: Identity | Refusal | None) -> None:
        """Takes who calls, now or a moment later."""
        if self.ended:
            return
        try:
            self._subscribe(head, topic_id, caller)
        except Refusal as refusal:
            self.shared.sessions.refused(refusal)
            self.refuse(refusal, body=head.method != "HEAD")

    def _subscribe(self, head: Head, topic_id: str | None, caller: Identity | Refusal | None) -> None:
        sessions = self.shared.sessions
        if isinstance(caller, Refusal):
            if not caller.retryable or head.method == "HEAD":
                raise caller
            sessions.refused(caller)
            # an EventSource comes back, as a status would not let it
            sessions.turn_away(self._begin(), caller.retry_after_ms)
            return
        identity = caller
        if identity is None:
            raise Refusal("unauthenticated", "this stream needs a token: a header, ?token= or a ticket")
        if not head.complete:
            raise too_many_fields()
        topic_id = check_topic_id(_topic_of(head) if topic_id is None else topic_id)
        if not identity.may_follow(topic_id):
            raise other_topic()
        try:
            wanted, fault = _wanted(head, topic_id), None
        except Refusal as refusal:
            wanted, fault = None, refusal
        if wanted is None or head.method == "HEAD":
            self._check_topic(topic_id, identity.caller, fault, body=head.method != "HEAD")
        else:
            sessions.start_sse(self._begin(), identity, wanted)

    def data_received(self, data: bytes) -> None:
        """Drops the bytes."""

    def refuse(self, refusal: Refusal, *, body: bool = True) -> None:
        """Answers a request that never became a stream."""
        self.write(problem_answer(refusal, self._cors, body=body))
        self.shut()

    def _begin(self) -> Session:
        """Makes the session; the answer's head is its preface."""
        shared = self.shared
        _end_when_dead(self.transport, shared.limits.dead_s)
        self.session = session = shared.sessions.create(self, SSE, stream_begin(self._cors, shared.rng.random()))
        return session

    def _check_topic(self, topic_id: str, caller: Caller, fault: Refusal | None, *, body: bool) -> None:
        """Answers without subscribing. A `fault` of the query is told only to a caller who may see the topic."""
        sessions = self.shared.sessions
        late = fault or Refusal("not_ready", "the topic's owner does not answer; try again", retry_after_ms=1_000)
        asked = _Asked(partial(self._checked, fault, body=body), late)
        sessions.plan(asked, self.shared.limits.hold_s)
        sessions.check_topic(topic_id, caller, asked.end)

    def _checked(self, fault: Refusal | None, refusal: Refusal | None, *, body: bool) -> None:
        refusal = refusal or fault
        if self.ended:
            return
        if refusal is not None:
            self.shared.sessions.refused(refusal)
            self.refuse(refusal, body=body)
            return
        self.write(stream_head(self._cors))
        self.shut()


class _Asked:
    """The wait for an owner; see `headgate.core.fanout.wheel.Visited`. Over, it holds nothing of its request."""

    def __init__(self, then: Callable[[Refusal | None], None], late: Refusal) -> None:
        self._then: Callable[[Refusal | None], None] | None = then
        self._late = late

    def end(self, refusal: Refusal | None) -> None:
        """The owner has answered."""
        then, self._then = self._then, None
        if then is not None:
            then(refusal)

    def visit(self, now: float) -> None:
        """It has not answered in time."""
        self.end(self._late)


def _check_page(head: Head, origins: Origins, *, is_open: bool) -> None:
    """Refuses pages of other origins, and in open mode pages that load a stream as an image or a script.

    Such a load has no Origin, and could create a topic. Browsers mark it (W3C Fetch Metadata).
    """
    origin, host = head.headers.get("origin"), head.headers.get("host")
    if origin is None:
        foreign = is_open and head.headers.get("sec-fetch-site") == "cross-site"
    else:
        foreign = not origins.allows(origin, host)
    if foreign:
        raise Refusal("forbidden", "pages of this origin may not connect")


def _topic_of(head: Head) -> str:
    topics = [value for name, value in head.query if name == "topic_id"]
    if len(topics) > 1:
        raise Refusal("bad_request", "one stream carries one topic; open a WebSocket for several")
    if not topics:
        raise Refusal("bad_request", "topic_id is missing")
    return topics[0]


def _wanted(head: Head, topic_id: str) -> Subscribe:
    """Reads the position and the options. Raises Refusal `bad_request`."""
    options = dict(head.query)
    event_id = head.headers.get("last-event-id") or options.get("last_event_id")
    if event_id:
        if _EVENT_ID.fullmatch(event_id) is None:
            raise Refusal("bad_request", "Last-Event-ID is <epoch>:<seq>")
        options["from"] = event_id
    wanted = inbound.subscribe_from_query(topic_id, options)
    if wanted.ack:
        raise Refusal("bad_request", "ack:true is for WebSockets: a stream cannot send ack frames; use from=cursor")
    if wanted.presence == inbound.PRESENCE_CHANGES:
        raise Refusal("bad_request", "presence:true (presence_diff) is for WebSockets; leave it out or say false")
    return wanted


def _end_when_dead(transport: asyncio.Transport, seconds: float) -> None:
    """Lets the kernel end a connection whose client has acknowledged no byte for so long (RFC 5482; Linux only).

    Only the kernel can tell: comments are a few bytes, and its buffer takes them for hours after a client is gone.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    pipe = transport.get_extra_info("socket")
    if option is not None and pipe is not None:
        pipe.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1_000))
