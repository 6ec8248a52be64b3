"""Tells the owners of users' shards how far the devices have come: once a second, in batches; what is urgent, at once.

What an owner has not stored stays dirty and is sent again. Cursors merge, so a repeat harms nothing.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.shard_batches import ShardBatches
from headgate.core.fanout.subscription_acks import SubscriptionAcks
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_acks import MAX_CURSORS, Cursor, CursorsMoved, MoveCursors, ReleaseCursor

MAX_WAITING: Final = 256  # frames of a subscription that wait for the log: ten a second may come for half a minute
MAX_ENDED: Final = 10_000  # ended subscriptions whose cursors wait for an owner; beyond it their messages come again


class CursorReports:
    """The cursors of one gateway that are not stored yet. `schedule` asks the shell for a call of `announce`."""

    def __init__(self, upstream: Upstream, schedule: Callable[[], None]) -> None:
        self._upstream = upstream
        self._schedule = schedule
        self._dirty: dict[SubscriptionAcks, None] = {}
        self._ended: OrderedDict[SubscriptionAcks, None] = OrderedDict()  # a part of the dirty ones, oldest first
        self._urgent: dict[SubscriptionAcks, None] = {}
        self._releases: list[tuple[int, ReleaseCursor]] = []
        self._released: set[tuple[str, str, str]] = set()  # whose they are
        self._is_scheduled = False
        self._batches = ShardBatches(upstream, MAX_CURSORS, self._take, MoveCursors, self._stored, CursorsMoved)

    @property
    def is_pending(self) -> bool:
        """Whether a cursor is not stored yet."""
        return bool(self._dirty or self._batches.under_way or self._is_scheduled)

    def changed(self, acks: SubscriptionAcks, *, urgent: bool = False) -> None:
        """A cursor has moved, or is to be stored for the first time."""
        acks.version += 1
        self._dirty[acks] = None
        if urgent:
            self._hurry(acks)

    def confirm(self, acks: SubscriptionAcks, frame_id: FrameId) -> None:
        """Answers a frame with `ok` once the log has the cursor as it is now.

        Raises Refusal `not_ready` while too many frames wait.
        """
        if acks.version == acks.stored:
            acks.subscription.session.emit(outbound.ok(frame_id))
            return
        waiting = acks.waiting
        if waiting is None:
            waiting = acks.waiting = []
        if len(waiting) >= MAX_WAITING:
            raise Refusal(
                "not_ready", "the owner of the cursor is away; the acknowledgement counts", retry_after_ms=1_000
            )
        waiting.append((acks.version, frame_id))
        self._dirty[acks] = None
        self._hurry(acks)

    def ended(self, acks: SubscriptionAcks) -> None:
        """The subscription ended: its cursor is sent at the end of the loop turn, and then its lease is free."""
        self._releases.append((acks.shard, ReleaseCursor(*acks.key, acks.lease.connection_id)))
        self._released.add(acks.key)
        if acks.version != acks.stored:
            self._dirty[acks] = None
            self._ended[acks] = None
        self._hurry(acks)

    def announce(self) -> None:
        """Sends what is urgent."""
        if not self._is_scheduled:
            return
        self._is_scheduled = False
        urgent, self._urgent = self._urgent, {}
        self._batches.send(acks for acks in urgent if acks in self._dirty)
        releases, self._releases = self._releases, []
        self._released.clear()
        for shard, release in releases:
            self._upstream.send(shard, release)

    def before_opening(self, key: tuple[str, str, str]) -> None:
        """The cursor of a user, device and topic is about to be asked for: sends what is known of it here."""
        if key in self._released:
            self.announce()

    def look(self) -> None:
        """Sends all that is dirty; called about once a second."""
        if self._dirty:
            self._batches.send(list(self._dirty))
        while len(self._ended) > MAX_ENDED:
            oldest, _ = self._ended.popitem(last=False)
            self._dirty.pop(oldest, None)

    def _hurry(self, acks: SubscriptionAcks) -> None:
        self._urgent[acks] = None
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule()

    def _take(self, acks: SubscriptionAcks) -> Cursor:
        self._dirty.pop(acks, None)
        return acks.cursor()

    def _stored(self, acks: SubscriptionAcks, version: int, is_stored: bool) -> None:
        if not is_stored:
            if not acks.subscription.is_over or acks in self._ended:  # else it was forgotten meanwhile
                self._dirty[acks] = None
            return
        acks.store(version)
        if acks not in self._dirty:
            self._ended.pop(acks, None)
        if acks.waiting:
            self._answer(acks)

    def _answer(self, acks: SubscriptionAcks) -> None:
        assert acks.waiting is not None
        done = [frame_id for version, frame_id in acks.waiting if version <= acks.stored]
        acks.waiting = [entry for entry in acks.waiting if entry[0] > acks.stored] or None
        for frame_id in done:
            acks.subscription.session.emit(outbound.ok(frame_id))
