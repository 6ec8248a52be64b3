"""Link messages as bytes and back. Each is encoded alone, so that an unsendable one harms no other."""

from collections.abc import Sequence
from typing import Final

import msgspec

from headgate.core.wire.errors import CODES, HeadgateError, Refusal
from headgate.core.wire.link import Message, Refused, Request

MAX_BATCH: Final = 4_096  # messages of a batch; more are refused before one is decoded
MAX_BYTES: Final = 96 * 1024 * 1024 - 4_096  # of a message

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


class Unsendable(HeadgateError):
    """A message that cannot be encoded. It is dropped alone; `answer` is for the one who waits for it."""

    def __init__(self, message: Message, why: str) -> None:
        super().__init__(f"{type(message).__name__} cannot be sent: {why}")
        req = getattr(message, "req", None)
        self.of_request = isinstance(message, Request)
        self.answer = None if req is None else Refused(req, "internal", f"{type(message).__name__} cannot be sent")


def encode(message: Message) -> bytes:
    """Returns one message as bytes, a part of a batch. Raises Unsendable, also for one above MAX_BYTES."""
    try:
        data = _encoder.encode(message)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # a lone surrogate is a ValueError
        raise Unsendable(message, f"{type(error).__name__}: {error}") from None
    if len(data) > MAX_BYTES:
        raise Unsendable(message, f"it has {len(data)} bytes, at most {MAX_BYTES} are taken")
    return data


def batch_of(parts: Sequence[bytes]) -> bytes:
    """Returns at most MAX_BATCH encoded messages as one batch: a msgpack array of 16-bit length."""
    return b"".join((b"\xdc", len(parts).to_bytes(2, "big"), *parts))


def encode_batch(messages: list[Message]) -> bytes:
    """Returns one batch as bytes. Raises Unsendable."""
    return batch_of([encode(message) for message in messages])


def decode_batch(data: bytes) -> list[Message]:
    """Reads a batch. Raises msgspec.DecodeError unless it is a batch of version 1 with at most MAX_BATCH messages."""
    if _count(data) > MAX_BATCH:
        raise msgspec.DecodeError(f"a batch of {_count(data)} messages, at most {MAX_BATCH} are taken")
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _count(data: bytes) -> int:
    """Returns how many messages the head of a batch announces; 0 unless it is a 16 or 32-bit array."""
    head = data[:1]
    size = {b"\xdc": 2, b"\xdd": 4}.get(head, 0)
    return int.from_bytes(data[1 : 1 + size], "big")


def refused_with(req: int, refusal: Refusal) -> Refused:
    """Returns the answer that carries a refusal over a link; `refusal_of` reads it."""
    retry = {} if refusal.retry_after_ms is None else {"retry_after_ms": refusal.retry_after_ms}
    return Refused(req, refusal.code, refusal.detail, {**refusal.extra, **retry})


def refusal_of(refused: Refused) -> Refusal:
    """Returns the far end's refusal; a code or member that this version does not know harms nobody."""
    extra = {name: value for name, value in refused.extra.items() if name not in ("code", "detail", "retry_after_ms")}
    retry = refused.extra.get("retry_after_ms")
    code = refused.code if refused.code in CODES else "internal"
    return Refusal(code, refused.detail, retry_after_ms=retry if isinstance(retry, int) else None, **extra)
