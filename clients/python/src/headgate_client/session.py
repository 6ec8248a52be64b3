"""One connection: reads frames while there is room, sends what waits, keeps the connection alive, renews the token."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from headgate_client.credentials import Credential, Credentials
from headgate_client.errors import CredentialsFailed, RequestFailed
from headgate_client.frames import Frame, read
from headgate_client.outbox import Outbox
from headgate_client.transport import Transport, TransportEnded

PING_EVERY_S: Final = 10.0
PING_TIMEOUT_S: Final = 10.0
RENEW_AGAIN_S: Final = 5.0
ACK_PAUSE_S: Final = 0.05
_log = logging.getLogger("headgate_client")


class Room:
    """Whether the queues take more: the socket is read only then, so the server stops sending."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.times_shut = 0
        self._full: Callable[[], bool] = lambda: False

    def ask(self, full: Callable[[], bool]) -> None:
        """Sets the question whether any queue is full."""
        self._full = full

    @property
    def is_open(self) -> bool:
        """Whether the socket is read."""
        return self._open.is_set()

    def look(self) -> None:
        """Asks again, after something was put into a queue or taken out of it."""
        if self._full():
            self.times_shut += self._open.is_set()
            self._open.clear()
        else:
            self._open.set()

    async def wait(self) -> None:
        """Waits for room."""
        await self._open.wait()


class Session:
    """An open connection. `last` is the `disconnect` frame, once it has come."""

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        room: Room,
        credentials: Credentials,
        used: Credential | None,
        take: Callable[[Frame, bytes], None],
    ) -> None:
        """`take` gets every frame that is not an answer to `ask`."""
        self._transport = transport
        self._outbox = outbox
        self._room = room
        self._credentials = credentials
        self.used = used  # presented last
        self._take = take
        self._put = asyncio.Event()
        self._idle = asyncio.Event()  # everything was sent
        self._expiring = asyncio.Event()
        self._ids = itertools.count(1)
        self._asked: dict[Any, asyncio.Future[Frame]] = {}
        self._told: dict[Any, Callable[[], None]] = {}
        self.last: Frame = {}
        self._frames = 0  # read
        self.served = False  # a topic was granted: the credentials are good
        self.jitter: object = None  # of `welcome`: see `Backoff.spread`

    async def run(self) -> int:
        """Serves until the connection ends. Returns the close code, 1006 when there was none."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in (self._read(), self._send()):
                    tasks.create_task(part)
                if self._transport.two_way:
                    tasks.create_task(self._live())
                    tasks.create_task(self._renew())
        except* (TransportEnded, OSError):
            pass  # the close code says why
        finally:
            self._idle.set()  # nothing more can be sent
            self._fail_asked("the connection was lost")
        return self._transport.close_code

    def put(self, frame: Frame) -> None:
        """Sends a frame when its turn comes. Raises OutboxFull."""
        self._outbox.put(frame)
        self._idle.clear()
        self._put.set()

    def number(self, frame: Frame) -> int:
        """Sends a frame with an id of its own and returns the id, which its answer has. Raises OutboxFull."""
        number = next(self._ids)
        self.put({**frame, "id": number})
        return number

    def tell(self, frame: Frame, then: Callable[[], None]) -> None:
        """Sends a frame with an id and calls `then` when its answer comes on this connection, an error too."""
        self._told[self.number(frame)] = then

    async def ask(self, frame: Frame, timeout_s: float) -> Frame:
        """Sends a frame with an id and waits for its answer. Raises RequestFailed, TimeoutError."""
        number = next(self._ids)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self.put({**frame, "id": number})
            async with asyncio.timeout(timeout_s):
                found = await answer
        finally:
            self._asked.pop(number, None)
        if found["type"] == "error":
            raise RequestFailed(str(found.get("code")), str(found.get("message", "")))
        return found

    async def close(self, timeout_s: float) -> None:
        """Sends what waits, then the close frame; waits for both `timeout_s` at most."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%d frames were not sent before the end", len(self._outbox))
        await self._transport.close()

    async def _read(self) -> None:
        while True:
            await self._room.wait()
            text = await self._transport.recv()
            self._frames += 1
            try:
                frame = read(text)
            except (ValueError, RecursionError):
                _log.warning("the server sent %d bytes that are no frame", len(text))
                continue
            try:
                self._dispatch(frame, text)
            except Exception as error:  # one frame that cannot be used must not end every topic
                _log.error("a frame %s could not be used", frame["type"], exc_info=error)
            self._room.look()

    def _dispatch(self, frame: Frame, text: bytes) -> None:
        kind = frame["type"]
        if kind == "disconnect":
            self.last = frame
        elif kind == "welcome":
            limits, self.jitter = frame.get("limits", {}), frame.get("reconnect_jitter")
            if "control_frames_per_s" in limits and "control_frames_burst" in limits:
                self._outbox.limits(limits["control_frames_per_s"], limits["control_frames_burst"])
        elif kind == "token_expiring" and self._credentials.renew_in_s is None:  # else we know it better
            self._expiring.set()
        self.served = self.served or kind == "subscribed"
        self._take(frame, text)
        if "id" in frame:  # after it: what an answer ends holds for the answer itself
            self._answered(frame)

    def _answered(self, frame: Frame) -> None:
        then = self._told.pop(frame["id"], None)
        if then is not None:
            then()
        answer = self._asked.pop(frame["id"], None)
        if answer is not None and not answer.done():
            answer.set_result(frame)

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while (frame := self._outbox.take(loop.time())) is not None:
                await self._transport.send(frame)
                if frame["type"] == "ack":
                    await asyncio.sleep(ACK_PAUSE_S)  # further ones become one
            self._put.clear()
            if not len(self._outbox):
                self._idle.set()
            try:
                async with asyncio.timeout(self._outbox.wait_s()):
                    await self._put.wait()
            except TimeoutError:
                continue

    async def _live(self) -> None:
        """Ends a connection on which nothing comes. While it is not read, only tells the server that we are here."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            if not self._room.is_open:
                await self._transport.pong()
                continue
            before = (self._frames, self._room.times_shut)
            pong = await self._transport.ping()
            await asyncio.wait([pong], timeout=PING_TIMEOUT_S)
            if pong.done():
                if pong.cancelled() or pong.exception() is not None:
                    raise TransportEnded
            # The pong may stand behind messages that were not read yet; those that were read are life too.
            elif self._room.is_open and before == (self._frames, self._room.times_shut):
                _log.info("nothing came for %.0f s: the connection is given up", PING_TIMEOUT_S)
                await self._transport.abort()
                return

    async def _renew(self) -> None:
        while self._credentials.can_renew:
            due = self._credentials.renew_in_s
            try:
                async with asyncio.timeout(due):
                    await self._expiring.wait()
            except TimeoutError:
                pass
            self._expiring.clear()
            if not await self._renewed():
                await asyncio.sleep(RENEW_AGAIN_S)

    async def _renewed(self) -> bool:
        """Fetches a token and sends it. Returns whether the present one is good for longer."""
        try:
            if self._credentials.renew_in_s is None:
                self._credentials.refused(self.used)
            new = await self._credentials.get(streams=True)
        except CredentialsFailed as error:
            _log.warning("%s", error)
            return False
        if new is None or new.is_ticket or new == self.used:
            return False  # a WebSocket takes no second ticket: it ends with 4610, and the next one has a new ticket
        self.used = new
        try:
            await self.ask({"type": "refresh", "token": new.text}, PING_TIMEOUT_S)
        except (RequestFailed, TimeoutError) as error:
            _log.warning("the server did not take the new token: %s", error)
            return False
        return new.expires_at is None or new.expires_at > time.time() + RENEW_AGAIN_S

    def _fail_asked(self, why: str) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(RequestFailed("connection_lost", why))
