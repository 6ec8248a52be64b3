"""A WebSocket's socket: bytes in and out (RFC 6455 section 5); knows nothing of topics or what is delivered."""

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from gateway.stream import Stream
from headgate.core.framing import close_frame
from headgate.core.session import Session

if TYPE_CHECKING:
    from gateway.protocol import Front

_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_CONTROL_BYTES = 125  # RFC 6455 section 5.5: a control frame may stand between the fragments of any message


class FrameReader:
    """Cuts bytes into frames with `websockets`' own parser; made when bytes arrive, dropped when it is `idle`."""

    __slots__ = ("_frame", "_max_size", "_parts", "_reader", "_size", "_text")

    def __init__(self, max_size: int) -> None:
        self._reader = StreamReader()
        self._frame: Generator[None, None, Frame] | None = None
        self._max_size = max_size
        self._parts: bytearray | None = None
        self._text = False

    @property
    def idle(self) -> bool:
        """Says that it stands between two messages and holds no byte."""
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
                return  # the rest has not come yet
            except StopIteration as complete:
                self._frame = None
                yield complete.value

    def message(self, frame: Frame) -> bytes | None:
        """Takes a data frame and returns the message it completes.

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

    def __init__(self, front: "Front", transport: asyncio.Transport) -> None:
        super().__init__(front, transport)
        self._reader: FrameReader | None = None

    def data_received(self, data: bytes) -> None:
        """Takes bytes; whatever they are, they are a sign of life."""
        session = self.session
        if self.ended or session is None:
            return
        gateway = self.front.gateway
        gateway.heard(session)
        reader = self._reader
        if reader is None:
            reader = FrameReader(gateway.hub.limits.frame_bytes)
        try:
            self._take(session, reader, data)
        except ProtocolError as error:
            self._fail(CloseCode.PROTOCOL_ERROR, str(error))
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "a text frame is UTF-8")
        except PayloadTooBig:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"a frame has at most {gateway.hub.limits.frame_bytes} bytes")
        self._reader = None if self.ended or reader.idle else reader

    def end(self, code: int, reason: str) -> None:
        """Writes a close frame and closes our side."""
        self.write(close_frame(code, reason))
        self.shut()

    def _take(self, session: Session, reader: FrameReader, data: bytes) -> None:
        ping: Frame | None = None
        for frame in reader.feed(data):
            if frame.opcode in _DATA:
                message = reader.message(frame)
                if message is not None:
                    self.front.gateway.receive(session, message)
            elif frame.opcode is Opcode.PING:
                ping = frame
            elif frame.opcode is Opcode.CLOSE:
                answer = reader.goodbye(frame)
                self.front.gateway.lost(session)
                self.write(answer)
                self.shut()
            if self.ended:
                return
        if ping is not None:  # RFC 6455 section 5.5.3: the most recent one may stand for all
            session.put(Frame(Opcode.PONG, ping.data).serialize(mask=False))

    def _fail(self, code: int, reason: str) -> None:
        session = self.session
        if session is not None and not self.ended:
            self.front.gateway.lost(session)
            self.end(code, reason)
