"""The pieces of rings that were last replayed, as bytes: very many clients come back to one place of one topic."""

from typing import Final, NamedTuple

from headgate.core.client.framing import Framing
from headgate.core.client.limits import Limits
from headgate.core.fanout.feed import Piece, Ring
from headgate.core.fanout.session import TopicFeed

KEPT: Final = 16  # pieces, each at most `Limits.piece_bytes` and its framing: about 4 MB


class Replayed(NamedTuple):
    """Consecutive messages up to `last` as one write; `size` are the bytes of their frames."""

    piece: Piece
    last: int
    size: int
    data: bytes


class ReplayPieces:
    """Those of one gateway. A piece is made anew when its ring has changed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: dict[tuple[TopicFeed, int, Framing], tuple[Ring, int, Replayed]] = {}

    def after(self, feed: TopicFeed, cursor: int, framing: Framing) -> Replayed | None:
        """Returns the piece above `cursor` as `Feed.after` does, in the bytes of a framing."""
        if feed.is_incomplete:
            return None
        key, ring = (feed, cursor, framing), feed.ring
        kept = self._kept.get(key)
        if kept is not None and kept[0] is ring and kept[1] == ring.version:
            return kept[2]
        piece = feed.after(cursor, self._limits)
        if piece is None:
            return None
        replayed = replayed_of(feed, piece, framing)
        self._kept.pop(key, None)
        if len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (ring, ring.version, replayed)
        return replayed


def replayed_of(feed: TopicFeed, piece: Piece, framing: Framing) -> Replayed:
    """Returns a piece with its bytes in a framing."""
    data = framing.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames)
    return Replayed(piece, piece.seq + len(piece.frames) - 1, sum(map(len, piece.frames)), data)
