"""uvicorn's HTTP protocol with bounds for heads, pipelines, bodies in pieces, and answers that nobody reads.

Bytes are cut between head and body before httptools sees them. So a head is checked and rewritten as a whole, and no
byte after the end of a message is parsed before we decide to.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from headgate.runtime.http import heads
from headgate.runtime.http.answers import head_too_late
from headgate.runtime.http.bodies import IS_WHOLE
from headgate.runtime.http.body_end import BodyEnd
from headgate.runtime.http.heads import END, HeadBudget
from headgate.runtime.http.unread import UNREAD_S, UnreadAnswers, close_after
from headgate.runtime.http.waiting_requests import WaitingRequests

HEAD_S: Final = 10.0  # docs/protocol.md, section 7: request head and body deadline
HEAD_BYTES: Final = 64 * 1024
WAITING: Final = 16  # docs/protocol.md, section 0: pipelined requests
MAX_HELD: Final = 1024 * 1024  # a few reads of the loop: more than can come before reading is paused

ABORT: Final = "headgate.abort"  # an extension of the scope: call it to reset the connection
IS_BLOCKED: Final = "headgate.is_blocked"  # an extension: call it to ask whether answers wait for the client to read

Factory = Callable[..., asyncio.Protocol]


class BoundedHttp(HttpToolsProtocol):
    """A connection whose heads have `head_s` seconds and `head_bytes` bytes each: 408 and 431.

    An answer may be complete before its request is (413, 401, 415). The rest of the body is thrown away, for `head_s`
    seconds at most: closing at once would make the kernel send a reset, and the client would lose the answer. A client
    that takes nothing of an answer for `unread_s` seconds is reset.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        head_s: float = HEAD_S,
        head_bytes: int = HEAD_BYTES,
        unread_s: float = UNREAD_S,
        budget: HeadBudget | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False  # it would carry query strings, and so tokens
        self._head_s = head_s
        self._head_bytes = head_bytes
        self._unread_s = unread_s
        self._budget = HeadBudget() if budget is None else budget
        self._held = b""  # not yet given to the parser: an incomplete head, or requests that wait
        self._searched = 0  # bytes of `_held` in which no head ends, and no line wrongly
        self._counted = 0  # bytes of `_held` that are counted in the budget
        self._in_head = True  # also before the next one begins
        self._reading_head = False  # the parser is being given a head
        self._waits = False  # a complete head is held until the requests before it are answered
        self._waiting = WaitingRequests(self._budget)  # those in `pipeline`
        self._answered: RequestResponseCycle | None = None  # the oldest without a whole answer; `cycle` is the newest
        self._body = BodyEnd(0)
        self._over = False  # no more bytes are parsed
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: UnreadAnswers | None = None

    # The transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._unread = UnreadAnswers(transport, self.loop, self._unread_s)
        self._begin_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self._hold(b"")
        self._waiting.keep(0)
        if self._unread is not None:
            self._unread.stop()
        if self._answered is not None and self._answered is not self.cycle:
            _tell_gone(self._answered)  # uvicorn tells the newest request alone, which waits for this one
        super().connection_lost(exc)
        # What has this connection is let go of, so that all of it is freed at once, without the garbage collector.
        self.pipeline.clear()
        self.cycle = self.scope = self._answered = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._unset_keepalive_if_required()
        data = self._held + data if self._held else data
        at, searched, self._searched = 0, self._searched, 0
        self._waits = False
        while at < len(data) and not self._over:
            if self._in_head:
                at = heads.begin_of(data, at)
                end = data.find(END, max(at, searched - len(END)))
                if end < 0 or not self._take_head(data, at, end + len(END)):
                    break
                at, searched = end + len(END), 0
            elif (end := self._body.find(data, at)) > at:
                self._feed(data if at == 0 and end == len(data) else data[at:end])
                at = end
            else:
                break
        self._keep(data, at, searched)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's does nothing, which closes
        """The client sends nothing more, and may still read: its complete requests are answered."""
        if not self.answering or not self._in_head:
            return False
        self._end_after_answers()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._written()

    def shutdown(self) -> None:
        """uvicorn stops, or a drain begins: closes now, or after the answer."""
        if self.transport is not None:
            super().shutdown()

    def end_idle(self) -> None:
        """A drain begins: closes a connection that waits for a next request; another ends with its answer."""
        if self.cycle is not None and not self._held:
            self.shutdown()

    def abort(self) -> None:
        """Ends the connection without an answer."""
        if self.transport is not None:
            self.transport.abort()

    def _is_whole(self) -> bool:
        """Whether the newest request has come whole, and so all of them."""
        return self._in_head

    def _is_blocked(self) -> bool:
        """Whether the client has not yet read what was written before."""
        return self.flow.write_paused

    # The parser

    def on_message_begin(self) -> None:
        if not self._reading_head:
            self._end_after_answers()  # the parser saw the end of a body where we did not
        elif not self._over:
            super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._over:
            return
        self._end_deadline()
        answer = heads.refusal_of_fields(self.parser.get_http_version(), self.headers)
        if answer is not None:
            self._refuse(answer)
            return
        fields = dict(self.headers)
        self._body = BodyEnd(None if b"transfer-encoding" in fields else int(fields.get(b"content-length", b"0")))
        calls = {ABORT: self.abort, IS_WHOLE: self._is_whole, IS_BLOCKED: self._is_blocked}
        self.scope["extensions"] = calls  # type: ignore[typeddict-item]  # calls of ours, no settings
        self.url = heads.with_path(self.url)
        super().on_headers_complete()
        self._in_head = False  # not before: where that failed, `cycle` is the request before this one
        if not self.pipeline:
            self._answered = self.cycle
        self.headers = []  # the request has the other list: a trailer may not add to what was checked

    def on_body(self, body: bytes) -> None:
        if self._over:
            return
        self._body.count(body)
        super().on_body(body)
        if self.pipeline:
            self._waiting.grow(len(body))

    def on_message_complete(self) -> None:
        if self._over:
            return
        self._end_deadline()
        self._in_head = True
        super().on_message_complete()
        if not self.cycle.keep_alive:
            self._over = True  # the connection ends with this answer: later bytes have no meaning

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        self._waiting.keep(len(self.pipeline))
        self._written()
        if self.transport.is_closing():
            return
        if not self._in_head and self.cycle.response_complete:
            self._begin_deadline()
        if self._waits and not self.pipeline:
            self.data_received(b"")

    # Heads and bodies

    def route(self, head: bytes, data: bytes, at: int) -> bool:
        """Returns whether the request of a complete head may begin now.

        A subclass may return false, and is asked again after each answer. Or it takes the connection, and `data` from
        `at` on.
        """
        return True

    @property
    def answering(self) -> bool:
        """True while an answer is incomplete."""
        return self.cycle is not None and not self.cycle.response_complete

    def release(self) -> asyncio.Transport:
        """Gives up the connection between two requests. Another protocol takes the returned transport.

        That one has its own rule for a client that does not read.
        """
        self._over = True
        if self._unread is not None:
            self._unread.stop()
        self._end_deadline()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.connections.discard(self)
        return self.transport

    def _take_head(self, data: bytes, at: int, end: int) -> bool:
        """Gives one head to the parser; false when it is held or refused."""
        head = data[at:end]
        answer = heads.refusal_of_head(head, self._head_bytes)
        if answer is not None:
            self._refuse(answer)
            return False
        if len(self.pipeline) >= WAITING:
            self._end_after_answers()
            return False
        if not self.route(head, data, at):
            self._waits = not self._over
            return False
        waits = self.answering
        if waits and not self._waiting.add(len(head)):
            self._end_after_answers()
            return False
        self._reading_head = True
        waiting = len(self.pipeline)
        try:
            self._feed(heads.without_upgrade(head))
        finally:
            self._reading_head = False
        if waits and len(self.pipeline) == waiting:
            self._waiting.drop_newest()
        return True

    def _feed(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # CONNECT; other upgrades are never seen by the parser
            self._end_after_answers()
        except httptools.HttpParserError:
            self._refuse(heads.malformed())
        if not self._in_head and self._body.is_malformed():
            self._refuse(heads.malformed())

    def _keep(self, data: bytes, at: int, searched: int) -> None:
        """Holds the bytes that were not parsed: part of a head or of a body's END, or requests that wait."""
        rest = b"" if self._over else data[at:]
        if self._waits:
            self._end_deadline()
            self.flow.pause_reading()
            if not self._hold(rest) or len(rest) > MAX_HELD:
                self._refuse(b"")
        elif self._in_head and not self._over and (rest or not self.answering):
            self._begin_deadline()
            self._keep_head(rest, searched)
        elif rest or self._held:
            self._hold(b"")
            self._held = rest

    def _keep_head(self, rest: bytes, searched: int) -> None:
        answer = heads.refusal_of_start(rest, searched, self._head_bytes)
        if answer is None and not self._hold(rest):
            answer = heads.overloaded()
        if answer is not None:
            self._refuse(answer)
            return
        self._searched = len(rest)

    def _hold(self, rest: bytes) -> bool:
        """Holds the begin of a head; false when all connections together hold too much."""
        before, self._counted = self._counted, len(rest)
        self._held = rest
        return self._budget.move(before, len(rest))

    # Deadlines

    def _begin_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._head_s, self._late)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._in_head and self._held:
            self._refuse(head_too_late())
        elif self._in_head:
            self._refuse(b"")  # it never said anything
        else:
            self.transport.close()  # the answer is long there, and the body still comes
            self._written()

    def _written(self) -> None:
        if self._unread is not None:
            self._unread.look()

    # Ends

    def _end_after_answers(self) -> None:
        """Parses nothing more; the connection ends with the newest request's answer."""
        if self._over:
            return
        self._over = True
        self._end_deadline()
        if self.answering:
            self.cycle.keep_alive = False
        else:
            self.transport.close()
        self._hold(b"")

    def _refuse(self, answer: bytes) -> None:
        """Ends the connection with an answer; where earlier requests wait for theirs, after those and without this one.

        Only the first refusal counts: the parser continues after a refused head, and fails again.
        """
        if self._over:
            return
        if self.answering and not self._in_head:
            self._break_off(answer)
        elif answer and not self.answering:
            self._say(answer)
        else:
            self._end_after_answers()

    def _break_off(self, answer: bytes) -> None:
        """The newest request will never be complete: its application learns that the client is gone."""
        if self.pipeline or self.cycle.response_started:
            self.transport.abort()
            return
        _tell_gone(self.cycle)
        self._say(answer)

    def _say(self, answer: bytes) -> None:
        self._over = True
        self._end_deadline()
        self._hold(b"")
        close_after(self.transport, self.loop, answer)


def _tell_gone(request: RequestResponseCycle) -> None:
    """Tells the application of a request that its client is gone."""
    request.disconnected = True
    request.message_event.set()


def bounded(head_s: float) -> Factory:
    """Returns the value of uvicorn's setting `http` for heads of at most `head_s` seconds."""
    budget = HeadBudget()

    def make(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        return BoundedHttp(config, server_state, app_state, _loop, head_s=head_s, budget=budget)

    return make
