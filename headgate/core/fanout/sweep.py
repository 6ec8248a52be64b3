"""A sweep: one piece of a large topic on its way to its subscribers, block by block, and the pieces behind it."""

from collections import deque
from itertools import islice

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.fanout.blocks import Block, Group
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.session import Subscription, TopicFeed
from headgate.core.wire.amended_frames import amend
from headgate.core.wire.link_messages import Amended


class Sweep:
    """The sweep of one feed. Who is in a block with `sent` below the piece has not got it yet.

    The feed has all `pieces` in its ring, and `feed.sent` is the end of the last one: who leaves the step continues
    from there. `written` counts the sockets that got the first piece, `acknowledging` those of them that acknowledge;
    `fresh` are the ones that are in no metric yet. `is_late` while so much is pending behind it that its piece is
    written in one go, `is_over` once the feed was forgotten or everything is written.
    """

    __slots__ = (
        "_data",
        "_left",
        "_waiting",
        "acknowledging",
        "feed",
        "fresh",
        "is_late",
        "is_over",
        "pieces",
        "written",
    )

    def __init__(self, feed: TopicFeed) -> None:
        self.feed = feed
        self.pieces: deque[Piece] = deque()
        self.written = 0
        self.acknowledging = 0
        self.fresh = 0
        self.is_late = False
        self.is_over = False
        self._data: dict[bool, bytes] = {}
        self._left: list[Block[Subscription]] = []
        self._waiting: dict[Subscription, None] = {}  # once each, whatever pieces they waited for

    @property
    def piece(self) -> Piece:
        """The piece that is being written."""
        return self.pieces[0]

    @property
    def last(self) -> int:
        """The number of the newest message in the piece."""
        return self.piece.seq + len(self.piece.frames) - 1

    def add(self, piece: Piece) -> None:
        """Takes a piece that follows on those it has."""
        self.pieces.append(piece)

    def block(self) -> Block[Subscription] | None:
        """Returns a block that has not got the piece; None where all have it."""
        if not self.pieces:
            return None
        while True:
            while self._left:
                block = self._left[-1]
                if block.members and block.sent < self.last:
                    return block
                self._left.pop()
            blocks = self.feed.blocks
            assert blocks is not None, "a sweep's feed has blocks"
            self._left = blocks.behind(self.last)  # what was divided meanwhile is found here
            if not self._left:
                return None

    def data(self, group: Group) -> bytes:
        """Returns the piece as the bytes that a group gets, joined once."""
        is_stream = group is Group.STREAMS
        data = self._data.get(is_stream)
        if data is None:
            framing, feed = SSE if is_stream else WEBSOCKET, self.feed
            data = framing.messages(feed.epoch, self.piece.seq if feed.durable else 0, self.piece.frames)
            self._data[is_stream] = data
        return data

    def wrote(self, block: Block[Subscription], count: int) -> None:
        """So many sockets of a block took the piece."""
        self.written += count
        self.fresh += count
        if block.group is Group.ACKED:
            self.acknowledging += count

    def end_piece(self) -> None:
        """All have the piece: the next one begins, and who waited for this one may go on."""
        self.pieces.popleft()
        self._data = {}
        self.is_late = False
        self.written = self.acknowledging = self.fresh = 0
        self._waiting |= self.feed.waiting

    def released(self, most: int) -> list[Subscription]:
        """Returns some of those who waited for a piece that is written: they are to be pumped."""
        part = list(islice(self._waiting, most))
        for subscription in part:
            del self._waiting[subscription]
        released = [subscription for subscription in part if subscription in self.feed.waiting]
        for subscription in released:
            subscription.flushed()
        return released

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.pieces and not self._waiting

    def amend(self, message: Amended) -> None:
        """Replaces a message that was changed where it is still to be written, as `Feed.amend` does."""
        if not message.frame and not message.redacted:
            return
        for piece in self.pieces:
            amend(piece.frames, piece.seq, message.seq, message.frame, redacted=message.redacted)
        self._data = {}
