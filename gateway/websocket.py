"""A WebSocket's socket: bytes in and out (RFC 6455 section 5); knows nothing of topics or what is delivered."""

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from gateway.stream import Stream
from headgate.core.client.framing import close_frame
from headgate.core.fanout.session import Session

if TYPE_CHECKING:
    from gateway.protocol import ServerShared

_WHOLE: Final = frozenset({Opcode.TEXT, Opcode.BINARY})
_FRAMES_A_TURN: Final = 256  # parsed before the others have their turn: a read may hold 40,000
_CONTROL_BYTES: Final = 125  # RFC 6455 section 5.5: a control frame may stand between the fragments of any message


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

    def __init__(self, front: "ServerShared", transport: asyncio.Transport) -> None:
        super().__init__(front, transport)
        self._reader: FrameReader | None = None

    def data_received(self, data: bytes) -> None:
        """Takes bytes; whatever they are, they are a sign of life."""
        session = self.session
        if self.ended or session is None:
            return
        self.front.gateway.heard(session)
        self._parse(session, data)

    def end(self, code: int, reason: str) -> None:
        """Writes a close frame and closes our side."""
        self.write(close_frame(code, reason))
        self.shut()

    def _parse(self, session: Session, data: bytes) -> None:
        reader, limits = self._reader, self.front.gateway.options.limits
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
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Takes the next frames of what came: the others had their turn."""
        if self.ended or self.session is None or self._reader is None:
            return
        self.transport.resume_reading()
        self._parse(self.session, b"")

    def _take(self, session: Session, reader: FrameReader, data: bytes) -> bool:
        """Takes the frames that are complete, some hundred of them; true when there may be more."""
        ping: Frame | None = None
        count = 0
        for frame in reader.feed(data):
            count += 1
            whole = frame.fin and frame.opcode in _WHOLE
            if not whole and not self.front.gateway.counts_frame(session):
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
        """Answers the newest of some pings: it may stand for all (RFC 6455 section 5.5.3), before what came behind."""
        if ping is not None:
            self.front.gateway.pong(session, Frame(Opcode.PONG, ping.data).serialize(mask=False))

    def _obey(self, session: Session, reader: FrameReader, frame: Frame) -> None:
        if self.ended:
            return
        if frame.opcode is Opcode.CLOSE:
            answer = reader.goodbye(frame)
            self.front.gateway.lost(session)
            self.write(answer)
            self.shut()
            return
        message = reader.message(frame)
        if message is not None:
            self.front.gateway.receive(session, message)

    def _fail(self, code: int, reason: str) -> None:
        session = self.session
        if session is not None and not self.ended:
            self.front.gateway.lost(session)
            self.end(code, reason)
