"""The frames of an open WebSocket (RFC 6455 section 5): bytes in, messages out."""

import asyncio
from collections.abc import Generator
from functools import partial
from typing import Final

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from gateway.handshake import accept
from gateway.head import Head
from gateway.server_shared import ServerShared
from gateway.stream import Stream
from headgate.core.client.framing import WEBSOCKET, close_frame
from headgate.core.fanout.session import Session

_WHOLE: Final = frozenset({Opcode.TEXT, Opcode.BINARY})
_FRAMES_A_TURN: Final = 256  # parsed before the others have their turn: a read may hold 40,000
_CONTROL_BYTES: Final = 125  # RFC 6455 section 5.5: a control frame may come between the fragments of any message


def open_websocket(shared: ServerShared, transport: asyncio.Transport, head: Head) -> None:
    """Takes a connection whose handshake was checked, and the bytes that came behind it."""
    stream = WebSocketStream(shared, transport)
    stream.start(head)


class FrameReader:
    """Cuts bytes into frames with `websockets`' own parser, and puts fragments of at most `max_size` bytes together.

    It is made when bytes arrive and dropped when it is `idle`: a quiet connection has none.
    """

    __slots__ = ("_frame", "_max_size", "_parts", "_reader", "_text")

    def __init__(self, max_size: int) -> None:
        self._reader = StreamReader()
        # The parser of the frame under way: it waits for more bytes.
        self._frame: Generator[None, None, Frame] | None = None
        self._max_size = max_size
        # The fragments of the message under way, and whether they are text.
        self._parts: bytearray | None = None
        self._text = False

    @property
    def idle(self) -> bool:
        """Whether it is between two messages and holds no byte."""
        return self._frame is None and self._parts is None and not self._reader.buffer

    def feed(self, data: bytes) -> Generator[Frame, None, None]:
        """Yields the frames that are complete. Raises ProtocolError or PayloadTooBig."""
        self._reader.feed_data(data)
        while self._frame is not None or self._reader.buffer:
            if self._frame is None:
                most = max(self._left, _CONTROL_BYTES)
                self._frame = Frame.parse(self._reader.read_exact, mask=True, max_size=most)
            try:
                next(self._frame)
                return  # the rest has not arrived yet
            except StopIteration as complete:
                self._frame = None
                yield complete.value

    def message(self, frame: Frame) -> bytes | None:
        """Takes a data frame and returns the message it completes, None while fragments are missing.

        Raises ProtocolError, PayloadTooBig or UnicodeDecodeError.
        """
        if len(frame.data) > self._left:
            raise PayloadTooBig(len(frame.data), self._left)
        if frame.opcode is Opcode.CONT:
            if self._parts is None:
                raise ProtocolError("unexpected continuation frame")
        elif self._parts is not None:
            raise ProtocolError("expected a continuation frame")
        else:
            self._parts = bytearray()
            self._text = frame.opcode is Opcode.TEXT
        self._parts += frame.data
        if not frame.fin:
            return None
        whole = bytes(self._parts)
        self._parts = None
        if self._text:
            whole.decode()
        return whole

    @property
    def _left(self) -> int:
        """The bytes that the message may still have."""
        return self._max_size - len(self._parts or b"")

    def goodbye(self, frame: Frame) -> bytes:
        """Takes a close frame and returns the one that answers it. Raises ProtocolError or UnicodeDecodeError."""
        Close.parse(frame.data)
        if self._parts is not None:
            raise ProtocolError("incomplete fragmented message")
        return Frame(Opcode.CLOSE, frame.data).serialize(mask=False)


class WebSocketStream(Stream):
    """The protocol of an open WebSocket."""

    __slots__ = ("_reader",)

    def __init__(self, shared: ServerShared, transport: asyncio.Transport) -> None:
        super().__init__(shared, transport)
        # None between messages.
        self._reader: FrameReader | None = None

    def start(self, head: Head) -> None:
        """Answers the handshake and starts the session. Nothing is read before it is known who calls."""
        sessions = self.shared.sessions
        self.session = session = sessions.create(self, WEBSOCKET, accept(head))
        sessions.start_websocket(session, head, partial(self._read_on, head.rest))
        if session.is_unknown:
            self.transport.pause_reading()

    def _read_on(self, rest: bytes) -> None:
        """The caller is known, or is to send `auth`: reads what came behind the handshake, and what comes now."""
        if self.ended:
            return
        if not self.transport.is_reading():
            self.transport.resume_reading()
        if rest:
            self.data_received(rest)

    def data_received(self, data: bytes) -> None:
        """Takes bytes. All of them are a sign of life, ill-formed ones too."""
        session = self.session
        if self.ended or session is None:
            return
        self.shared.sessions.heard(session)
        session.release()  # before anything that these bytes cause
        self._parse(session, data)

    def end(self, code: int, reason: str) -> None:
        """Writes a close frame and closes our side."""
        self.write(close_frame(code, reason))
        self.shut()

    def _parse(self, session: Session, data: bytes) -> None:
        reader, limits = self._reader, self.shared.limits
        if reader is None:
            reader = FrameReader(limits.frame_bytes)
        more = False
        try:
            more = self._take(session, reader, data)
        except ProtocolError as error:
            self._fail(CloseCode.PROTOCOL_ERROR, str(error))
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "a text frame is UTF-8")
        except PayloadTooBig:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"a frame has at most {limits.frame_bytes} bytes")
        self._reader = None if self.ended or (reader.idle and not more) else reader
        if more:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._parse_more)

    def _parse_more(self) -> None:
        """Parses the next frames of a large read, after the other connections had their turn."""
        if self.ended or self.session is None or self._reader is None:
            return
        self.transport.resume_reading()
        self._parse(self.session, b"")

    def _take(self, session: Session, reader: FrameReader, data: bytes) -> bool:
        """Takes at most 256 complete frames; true when there may be more."""
        ping: Frame | None = None
        count = 0
        for frame in reader.feed(data):
            count += 1
            whole = frame.fin and frame.opcode in _WHOLE
            if not whole and not self.shared.sessions.counts_frame(session):
                self._fail(CloseCode.POLICY_VIOLATION, "too many pings, pongs or fragments")
            elif frame.opcode is Opcode.PING:
                ping = frame
            elif frame.opcode is not Opcode.PONG:
                self._answer(session, ping)
                ping = None
                self._obey(session, reader, frame)
            if self.ended:
                return False
            if count == _FRAMES_A_TURN:
                break
        self._answer(session, ping)
        return count == _FRAMES_A_TURN and not self.ended

    def _answer(self, session: Session, ping: Frame | None) -> None:
        """Answers the newest of several pings, which is enough (RFC 6455 section 5.5.3)."""
        if ping is not None:
            self.shared.sessions.pong(session, Frame(Opcode.PONG, ping.data).serialize(mask=False))

    def _obey(self, session: Session, reader: FrameReader, frame: Frame) -> None:
        if self.ended:
            return
        if frame.opcode is Opcode.CLOSE:
            answer = reader.goodbye(frame)
            self.shared.sessions.lost(session)
            self.write(answer)
            self.shut()
            return
        message = reader.message(frame)
        if message is not None:
            self.shared.sessions.receive(session, message)

    def _fail(self, code: int, reason: str) -> None:
        session = self.session
        if session is not None and not self.ended:
            self.shared.sessions.lost(session)
            self.end(code, reason)
