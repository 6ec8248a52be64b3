"""Finds the end of a request's body in the bytes that came (RFC 9112 section 6), and refuses bodies of tiny pieces."""

from typing import Final

from headgate.runtime.http.heads import END

PIECES: Final = 1_024  # of a chunked body; if there are more, each must have PIECE_BYTES on average
PIECE_BYTES: Final = 64
FRAMING_BYTES: Final = 64 * 1024  # of chunk sizes, extensions and trailers; more only if the body is as large
SLICE_BYTES: Final = 16 * 1024  # of a chunked body for the parser at a time: they may be 2,700 chunks


class BodyEnd:
    """One body. `length` is the bytes that its head announced; None for a chunked body."""

    __slots__ = ("_left", "_pieces", "_size", "_wire_bytes")

    def __init__(self, length: int | None) -> None:
        self._left = length
        self._pieces = self._size = self._wire_bytes = 0

    def find(self, data: bytes, at: int) -> int:
        """Returns where the certain part of the body ends in `data`; `at` when more bytes must come first.

        A chunked body ends with END, so the parser gets it up to each END. An END that is cut in two is held back. The
        parser gets one slice at most, so that its pieces are counted before the next.
        """
        if self._left is not None:
            end = min(len(data), at + self._left)
            self._left -= end - at
            return end
        border = data.find(END, at, at + SLICE_BYTES + len(END))
        if 0 <= border <= at + SLICE_BYTES - len(END):
            end = border + len(END)
        else:
            end = min(at + SLICE_BYTES, border if border >= 0 else len(data) - _open_end(data))
        self._wire_bytes += max(end - at, 0)
        return end

    def count(self, piece: bytes) -> None:
        """Counts a piece that the parser found."""
        self._pieces += 1
        self._size += len(piece)

    def is_malformed(self) -> bool:
        """True for a body that the parser has not ended although it should have ended, or that is mostly framing."""
        if self._left is not None:
            return self._left == 0
        is_thin = (self._pieces - PIECES) * PIECE_BYTES > self._size
        return is_thin or self._wire_bytes > 2 * self._size + FRAMING_BYTES


def _open_end(data: bytes) -> int:
    """Returns how many bytes at the end of `data` may be the beginning of END."""
    return next((size for size in (3, 2, 1) if data.endswith(END[:size])), 0)
