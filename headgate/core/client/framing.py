"""How a frame becomes bytes on a socket: WebSocket (RFC 6455) and SSE (HTML standard, section 9.2)."""

import struct
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

_TEXT: Final = 0x81  # FIN and opcode 1
_MEDIUM: Final = struct.Struct(">BBH").pack
_LARGE: Final = struct.Struct(">BBQ").pack
_SHORT: Final = tuple(bytes((_TEXT, size)) for size in range(126))
_MAX_REASON: Final = 123  # RFC 6455 section 5.5: a control frame carries 125 bytes, two are the code


class ClientFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame that is not a message: its type `name`, its JSON, and the SSE id that `subscribed` and `gap` carry."""

    name: str
    data: bytes
    mark: str = ""


class Framing(Protocol):
    """One of the two ways a session's frames are written. `name` is for people."""

    name: str
    heartbeat: bytes

    def messages(self, epoch: int, seq: int, frames: Sequence[bytes]) -> bytes:
        """Returns the message frames from `seq` on as one piece of bytes; `seq` 0: an ephemeral topic's."""

    def control(self, frame: ClientFrame) -> bytes:
        """Returns any other frame as bytes."""


class _WebSocket:
    """Each frame is one unmasked text frame:

    | 0x81 | length < 126 |  or  | 0x81 | 126 | length u16 |  or  | 0x81 | 127 | length u64 |  and the JSON
    """

    name = "websocket"
    heartbeat = b"\x89\x00"  # ping without data

    def messages(self, epoch: int, seq: int, frames: Sequence[bytes]) -> bytes:
        if len(frames) == 1:  # nearly always where topics are small
            return text_header(len(frames[0])) + frames[0]
        parts: list[bytes] = []
        for frame in frames:
            parts.append(text_header(len(frame)))
            parts.append(frame)
        return b"".join(parts)

    def control(self, frame: ClientFrame) -> bytes:
        return text_header(len(frame.data)) + frame.data


class _ServerSentEvents:
    """Messages use the default event name, for `onmessage`; the rest are named events (docs/protocol.md, section 5)."""

    name = "sse"
    heartbeat = b":\n\n"

    def messages(self, epoch: int, seq: int, frames: Sequence[bytes]) -> bytes:
        if seq == 0:
            return b"".join([b"data: %b\n\n" % frame for frame in frames])
        return b"".join([b"id: %d:%d\ndata: %b\n\n" % (epoch, n, frame) for n, frame in enumerate(frames, seq)])

    def control(self, frame: ClientFrame) -> bytes:
        mark = f"id: {frame.mark}\n" if frame.mark else ""
        return f"{mark}event: {frame.name}\ndata: ".encode() + frame.data + b"\n\n"


WEBSOCKET: Final[Framing] = _WebSocket()
SSE: Final[Framing] = _ServerSentEvents()


def text_header(size: int) -> bytes:
    """Returns the header of a text frame of `size` bytes."""
    if size < 126:
        return _SHORT[size]
    return _MEDIUM(_TEXT, 126, size) if size < 65_536 else _LARGE(_TEXT, 127, size)


def close_frame(code: int, reason: str) -> bytes:
    """Returns a close frame; a reason too long for a control frame is cut between two characters."""
    text = reason.encode()[:_MAX_REASON].decode(errors="ignore").encode()
    return bytes((0x88, 2 + len(text))) + code.to_bytes(2, "big") + text


def retry(milliseconds: int) -> bytes:
    """Returns the SSE line that tells a client how long to wait before it reconnects."""
    return b"retry: %d\n\n" % milliseconds
