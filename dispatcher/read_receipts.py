"""Tells publishers who has read their messages, in topics whose presence is `list`: hints, kept nowhere."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from dispatcher.shard import Destination, ShardOwner
from headgate.core.sequencer.rows import Row
from headgate.core.wire.frames import publisher_in
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_inbox import RECEIPT_PUBLISHERS, ReadReceipt, ReadStored
from headgate.core.wire.topic_settings import presence_of

FROM_VERSION: Final = 2  # of a link whose gateway knows ReadReceipt
EVERY_S: Final = 1.0
TOLD: Final = 500  # receipts of one second, a slice of 100 a loop turn: about 5 ms each
SLICE: Final = 100
WAITING: Final = 10_000  # receipts; the one that has waited for the longest time is dropped for a new one
READERS: Final = 50_000  # whose last receipt is known, by topic; of others the newest messages count: about 8 MB
PUBLISHERS: Final = 20_000  # of messages, that are remembered: the readers of one message ask for the same

Reader = tuple[str, int, str]  # topic, epoch, user


class ReadReceipts:
    """Serves one shard. A receipt goes out at the end of the second, the newest of each reader in each topic."""

    def __init__(self, owner: ShardOwner) -> None:
        self.handlers: Mapping[type, Callable[..., None]] = {ReadStored: self._stored}
        self._owner = owner
        self._waiting: OrderedDict[Reader, int] = OrderedDict()  # to the seq; the oldest first
        self._told: OrderedDict[Reader, int] = OrderedDict()  # to the seq of the last receipt; the last used is last
        self._publishers: OrderedDict[tuple[int, int], str] = OrderedDict()  # by epoch and seq, "" for an event
        self._timer: asyncio.Handle | None = None

    def close(self) -> None:
        """The shard is no longer served here."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _stored(self, peer: Destination, told: ReadStored) -> None:
        row = self._row(told.topic_id, told.epoch)
        if row is None or self._owner.shard.role(topic_key(row.topic_id), row, told.user_id) is None:
            return
        reader = (row.topic_id, row.epoch, told.user_id)
        seq = max(min(told.seq, row.seq), self._waiting.get(reader, 0))
        if seq <= self._told.get(reader, 0):
            return
        self._waiting[reader] = seq
        if len(self._waiting) > WAITING:
            self._waiting.popitem(last=False)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._begin)

    def _row(self, topic_id: str, epoch: int) -> Row | None:
        """Returns a topic in this epoch whose readers are told."""
        row = self._owner.rows.get(topic_key(topic_id))
        if row is None or row.epoch != epoch or row.ephemeral or presence_of(row.settings) != "list":
            return None
        return row

    def _begin(self) -> None:
        """The second is over: tells what waits now, so that no reader has two in one second."""
        self._tell(min(TOLD, len(self._waiting)))

    def _tell(self, left: int) -> None:
        """Sends a slice of the receipts that are due."""
        for _ in range(min(SLICE, left, len(self._waiting))):
            self._send(*self._waiting.popitem(last=False))
        loop = asyncio.get_running_loop()
        if left > SLICE:
            self._timer = loop.call_soon(self._tell, left - SLICE)
        else:
            self._timer = loop.call_later(EVERY_S, self._begin) if self._waiting else None

    def _send(self, reader: Reader, seq: int) -> None:
        topic_id, epoch, user_id = reader
        row = self._row(topic_id, epoch)
        if row is None:
            return
        publishers = self._publishers_of(row, self._told.get(reader, 0), seq, user_id)
        self._told[reader] = seq
        self._told.move_to_end(reader)
        if len(self._told) > READERS:
            self._told.popitem(last=False)
        if not publishers:
            return
        receipt = ReadReceipt(topic_id, epoch, user_id, seq, publishers)
        for route in self._owner.routes.hosts(topic_id):
            if route.gateway.version >= FROM_VERSION and not route.gateway.congested:
                route.gateway.send(receipt)

    def _publishers_of(self, row: Row, after: int, seq: int, reader: str) -> list[str]:
        """Returns who published the newest messages above `after` up to `seq`, without the reader."""
        found: dict[str, None] = {}
        for each in range(seq, max(after, seq - RECEIPT_PUBLISHERS), -1):
            found[self._publisher_of(row.epoch, each)] = None
        return [publisher for publisher in found if publisher not in ("", reader)]

    def _publisher_of(self, epoch: int, seq: int) -> str:
        """Returns who published a message; "" for an event, and where it cannot be said at once."""
        key = (epoch, seq)
        known = self._publishers.get(key)
        if known is not None:
            self._publishers.move_to_end(key)
            return known
        kept = self._owner.history.get(epoch, seq)
        if kept is None or (kept.frame is None and not kept.change):
            return ""
        found = self._publishers[key] = "" if kept.change or kept.frame is None else publisher_in(kept.frame)
        if len(self._publishers) > PUBLISHERS:
            self._publishers.popitem(last=False)
        return found
