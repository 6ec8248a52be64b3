"""An SSE request and its stream (PROTOCOL section 5): its checks and its socket; knows nothing of deliveries."""

import asyncio
import re
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.head import Head
from gateway.sse_head import stream_begin, stream_head
from gateway.stream import Stream
from headgate.core.client import inbound
from headgate.core.client.framing import SSE
from headgate.core.client.inbound import Subscribe
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import Answer, AskTopic, Refused, Request, TopicAnswer
from headgate.core.wire.rights import Caller, may_create, may_subscribe, require
from headgate.runtime.http.answers import Header, problem_answer
from headgate.runtime.http.cors import cors_headers
from headgate.runtime.http.queries import too_many_fields

if TYPE_CHECKING:
    from gateway.protocol import ServerShared
    from gateway.service import GatewayService

_EVENT_ID: Final = re.compile(r"[0-9]{1,16}:[0-9]{1,16}")
_OPTIONS: Final = ("from", "ack", "presence", "device_id")
_OVERLOADED: Final = 4503
_DRAINING: Final = 4601


class SseStream(Stream):
    """The protocol of an SSE stream. What the client sends after its request has no meaning and is thrown away."""

    __slots__ = ("cors",)

    def __init__(self, front: "ServerShared", transport: asyncio.Transport, cors: Sequence[Header]) -> None:
        super().__init__(front, transport)
        self.cors = cors

    def data_received(self, data: bytes) -> None:
        """Throws it away."""

    def refuse(self, refusal: Refusal) -> None:
        """Answers a request that never became a stream; what heals by waiting is a stream that ends at once."""
        self.write(problem_answer(refusal, self.cors))
        self.shut()


def open_sse(front: "ServerShared", transport: asyncio.Transport, head: Head, topic_id: str | None) -> None:
    """Answers a GET or HEAD of a stream path; it becomes a stream when the owner grants it."""
    gateway = front.gateway
    origin, host = head.headers.get("origin"), head.headers.get("host")
    stream = SseStream(front, transport, cors_headers(gateway.origins, origin, host))
    request = _SseRequest(stream, head, topic_id)
    try:
        _check_page(gateway, head)
        request.start()
    except Refusal as refusal:
        request.refuse(refusal)


def _check_page(gateway: "GatewayService", head: Head) -> None:
    """Refuses a page that may not call: by its origin, and in open mode one that loads a stream as an image or script.

    Such a request has no Origin, and could create a topic. Browsers mark it (W3C Fetch Metadata).
    """
    origin, host = head.headers.get("origin"), head.headers.get("host")
    if origin is None:
        foreign = gateway.authenticator.open and head.headers.get("sec-fetch-site") == "cross-site"
    else:
        foreign = not gateway.origins.allows(origin, host)
    if foreign:
        raise Refusal("forbidden", "pages of this origin may not connect")


class _SseRequest:
    """One request on its way to a stream."""

    def __init__(self, stream: SseStream, head: Head, topic_id: str | None) -> None:
        self._stream = stream
        self._gateway = stream.front.gateway
        self._head = head
        self._topic_id = topic_id
        self._bad: Refusal | None = None

    def start(self) -> None:
        """Checks in the order of PROTOCOL section 0. Raises Refusal."""
        gateway = self._gateway
        busy = gateway.busy()
        if busy is not None and self._head.method == "GET":
            self._turn_away(_DRAINING if gateway.draining else _OVERLOADED)
            return
        identity = gateway.identify(self._head)
        if identity is None:
            raise Refusal("unauthenticated", "this stream needs a token: a header, ?token= or a ticket")
        if not self._head.complete:
            raise too_many_fields()
        topic_id = check_topic_id(self._topic_of())
        wanted = self._wanted(topic_id)
        if wanted is None or self._head.method == "HEAD":
            self._look(topic_id, identity.caller)
            return
        session = self._session()
        if gateway.hub.admit(session, identity):
            gateway.reception.subscribe(session, wanted)

    def refuse(self, refusal: Refusal) -> None:
        """Answers with a status."""
        self._gateway.hub.metrics.refused(refusal.code, refusal.detail)
        self._stream.write(problem_answer(refusal, self._stream.cors, body=self._head.method != "HEAD"))
        self._stream.shut()

    def _session(self) -> Session:
        _end_when_dead(self._stream.transport, self._gateway.hub.limits.dead_s)
        session = self._gateway.new_session(self._stream, SSE)
        session.preface = stream_begin(self._stream.cors, self._gateway.rng.random())
        return session

    def _turn_away(self, code: int) -> None:
        """What heals by waiting: a stream that ends at once, so that an EventSource comes back."""
        session = self._session()
        self._gateway.hub.disconnect(session, code)

    def _topic_of(self) -> str:
        if self._topic_id is not None:
            return self._topic_id
        topics = [value for name, value in self._head.query if name == "topic_id"]
        if len(topics) > 1:
            raise Refusal("bad_request", "one stream carries one topic; open a WebSocket for several")
        if not topics:
            raise Refusal("bad_request", "topic_id is missing")
        return topics[0]

    def _wanted(self, topic_id: str) -> Subscribe | None:
        """Reads the position; None when it cannot be read, which counts only if the topic may be seen at all."""
        options = {name: value for name, value in self._head.query if name in _OPTIONS}
        event_id = self._head.headers.get("last-event-id") or self._head.last_of("last_event_id")
        try:
            if event_id:
                if _EVENT_ID.fullmatch(event_id) is None:
                    raise Refusal("bad_request", "Last-Event-ID is <epoch>:<seq>")
                options["from"] = event_id
            return inbound.subscribe_from_query(topic_id, options)
        except Refusal as refusal:
            self._bad = refusal
            return None

    def _look(self, topic_id: str, caller: Caller) -> None:
        """Asks whether there is such a topic for the caller, without following it."""
        upstream = self._gateway.hub.upstream

        def build(req: int) -> Request:
            return AskTopic(req, topic_id, caller)

        self._gateway.plan(self._stream, self._gateway.hub.limits.hold_s)  # an owner that never answers
        upstream.request(upstream.shard_of(topic_id), build, partial(self._looked, topic_id, caller))

    def _looked(self, topic_id: str, caller: Caller, answer: Answer) -> None:
        if self._stream.ended:
            return
        try:
            self._judge(topic_id, caller, answer)
        except Refusal as refusal:
            self.refuse(refusal)
        else:
            self._stream.write(stream_head(self._stream.cors))
            self._stream.shut()

    def _judge(self, topic_id: str, caller: Caller, answer: Answer) -> None:
        if isinstance(answer, TopicAnswer):
            require(may_subscribe(caller, answer.info), caller, answer.info, "subscribe to")
        elif isinstance(answer, Refused) and not (
            answer.code == "topic_not_found" and self._gateway.hub.auto_create and may_create(caller, topic_id)
        ):
            raise Refusal(answer.code, answer.detail)
        if self._bad is not None:
            raise self._bad


def _end_when_dead(transport: asyncio.Transport, seconds: float) -> None:
    """Lets the kernel end a connection whose far end takes no byte for so long (RFC 5482, where the system has it).

    Only the kernel knows: comments are a few bytes, and its own buffer takes them for hours after a reader has gone.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    pipe = transport.get_extra_info("socket")
    if option is not None and pipe is not None:
        pipe.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1_000))
