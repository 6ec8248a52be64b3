"""Read marks on their way to the log: once a second and (user, topic), at once where somebody waits or a session ends.

The owner of the topic says what a mark means (ResolveMark), the owner of the user's shard stores it (MoveMarks), and
the topic's owner is told that it is stored (ReadStored). What an owner away has not stored is sent again.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.shard_batches import ShardBatches
from headgate.core.wire import rights
from headgate.core.wire.errors import CODES, Refusal
from headgate.core.wire.link import Answer, Refused
from headgate.core.wire.link_inbox import (
    MAX_MARKS,
    MarksMoved,
    MoveMarks,
    ReadMark,
    ReadStored,
    ResolvedMark,
    ResolveMark,
)
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.rights import Caller

MAX_WAITING: Final = 256  # frames about one (user, topic) that wait for the log
MAX_ENDED: Final = 10_000  # marks of ended sessions that wait for an owner; beyond it the oldest is lost


class ReadProgress:
    """How far a user has read a topic, as the sessions here say; `shard` is that of the user.

    `wanted` is the newest seq that is to be stored, `version` the one under way and `stored` the one that is in the
    log. `sessions` are those that have read, each with its seq; `waiting` are frames that are answered once a seq is
    stored, and `silent` the sessions that asked without an id since the last one was.
    """

    __slots__ = (
        "caller", "feed", "is_busy", "mark", "sessions", "shard", "silent", "stored", "version", "waiting", "wanted",
    )  # fmt: skip

    def __init__(self, feed: TopicFeed, caller: Caller, shard: int) -> None:
        self.feed = feed
        self.caller = caller
        self.shard = shard
        self.wanted = 0
        self.version = 0
        self.stored = -1
        self.is_busy = False
        self.mark: ReadMark | None = None
        self.sessions: dict[Session, int] = {}
        self.silent: set[Session] = set()
        self.waiting: list[tuple[int, Session, FrameId]] = []

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is: user, topic."""
        return self.caller.user_id, self.feed.topic_id

    def note(self, session: Session, seq: int, caller: Caller) -> None:
        """A session has read."""
        self.caller = caller
        self.wanted = max(self.wanted, seq)
        self.sessions[session] = max(self.sessions.get(session, 0), seq)

    def store(self, mark: ReadMark) -> list[tuple[Session, FrameId]]:
        """The log has the mark under way; returns the frames to answer. What was above the head is the head."""
        self.stored = mark.seq
        self.silent.clear()
        if self.wanted == self.version:
            self.wanted = mark.seq
            self.sessions = {session: min(seq, mark.seq) for session, seq in self.sessions.items()}
        done = [(session, frame_id) for seq, session, frame_id in self.waiting if seq <= self.version]
        self.waiting = [entry for entry in self.waiting if entry[0] > self.version]
        return done


class ReadReports:
    """The read marks of one gateway that are not stored yet. `schedule` asks the shell for a call of `announce`."""

    def __init__(self, upstream: Upstream, shard_of_user: Callable[[str], int], schedule: Callable[[], None]) -> None:
        self._upstream = upstream
        self._shard_of_user = shard_of_user
        self._schedule = schedule
        self._reads: dict[tuple[str, str], ReadProgress] = {}
        self._dirty: dict[ReadProgress, None] = {}  # nothing of them is under way
        self._resolved: dict[ReadProgress, None] = {}  # to be stored at the end of the loop turn
        self._taking: dict[ReadProgress, None] = {}  # those that are being sent
        self._ended: OrderedDict[ReadProgress, None] = OrderedDict()  # no session of theirs is left, oldest first
        self._batches = ShardBatches(upstream, MAX_MARKS, self._take, MoveMarks, self._moved, MarksMoved)
        self._busy = 0

    @property
    def is_pending(self) -> bool:
        """Whether a mark is not stored yet."""
        return bool(self._dirty or self._busy)

    def has_read(self, session: Session, topic_id: str, seq: int) -> bool:
        """Returns whether a session has read a topic at least so far itself."""
        found = self._reads.get((session.user_id, topic_id))
        return found is not None and found.sessions.get(session, -1) >= seq

    def read(self, session: Session, subscription: Subscription, seq: int, frame_id: FrameId) -> None:
        """Takes a mark; with an id it is answered once the log has it. Raises Refusal `not_ready` where too many wait.

        The mark counts all the same.
        """
        caller = session.caller
        assert caller is not None, "only a known caller follows a topic"
        progress = self._progress_of(subscription.feed, caller)
        progress.note(session, seq, caller)
        if seq <= progress.stored:
            _ok(session, frame_id)
            return
        if not progress.is_busy:
            self._dirty[progress] = None
        if frame_id is None:
            progress.silent.add(session)
            return
        if len(progress.waiting) >= MAX_WAITING:  # those of connections that are gone make room
            progress.waiting = [entry for entry in progress.waiting if not entry[1].closed]
        if len(progress.waiting) >= MAX_WAITING:
            raise Refusal("not_ready", "the owner is away; the mark counts", retry_after_ms=1_000)
        progress.waiting.append((seq, session, frame_id))
        self._begin(progress)

    def end(self, subscription: Subscription) -> None:
        """A subscription ended: what it has read is stored now."""
        if not self._reads:
            return
        session, feed = subscription.session, subscription.feed
        progress = self._reads.get((session.user_id, feed.topic_id))
        if progress is None or progress.feed.epoch != feed.epoch or progress.sessions.pop(session, None) is None:
            return
        progress.silent.discard(session)
        self._begin(progress)
        if not progress.sessions:
            self._ended[progress] = None
            self._forget_done(progress)

    def announce(self) -> None:
        """Has what was resolved stored."""
        if not self._resolved:
            return
        self._taking, self._resolved = self._resolved, {}
        self._batches.send(list(self._taking))
        for progress in self._taking:  # their owner is away
            self._failed(progress)

    def look(self) -> None:
        """Begins with all that is to be stored; called about once a second."""
        for progress in list(self._dirty):
            self._begin(progress)
        while len(self._ended) > MAX_ENDED:
            self._forget(self._ended.popitem(last=False)[0])

    # Private

    def _progress_of(self, feed: TopicFeed, caller: Caller) -> ReadProgress:
        found = self._reads.get((caller.user_id, feed.topic_id))
        if found is not None and found.feed.epoch != feed.epoch:
            self._give_up(found, rights.unknown_topic(feed.topic_id))  # the topic was recreated
            found = None
        if found is None:
            found = ReadProgress(feed, caller, self._shard_of_user(caller.user_id))
            self._reads[found.key] = found
        found.feed = feed
        self._ended.pop(found, None)
        return found

    def _begin(self, progress: ReadProgress) -> None:
        """Asks the topic's owner what the newest seq means, where that is not under way."""
        if progress not in self._dirty or not self._upstream.linked(progress.feed.shard):
            return
        del self._dirty[progress]
        progress.is_busy, progress.version = True, progress.wanted
        self._busy += 1
        topic_id, caller, seq = progress.feed.topic_id, progress.caller, progress.wanted
        self._upstream.request(
            progress.feed.shard,
            lambda req: ResolveMark(req, topic_id, caller, seq),
            partial(self._answered, progress),
        )

    def _answered(self, progress: ReadProgress, answer: Answer) -> None:
        if isinstance(answer, ResolvedMark) and answer.epoch == progress.feed.epoch:
            progress.mark = ReadMark(*progress.key, answer.epoch, answer.seq, answer.n)
            if not self._resolved:
                self._schedule()
            self._resolved[progress] = None
            return
        refusal = refusal_of(answer) if isinstance(answer, Refused) else rights.unknown_topic(progress.feed.topic_id)
        if CODES[refusal.code].retryable:
            self._failed(progress)
        else:
            self._idle(progress)
            self._give_up(progress, refusal)

    def _take(self, progress: ReadProgress) -> ReadMark:
        del self._taking[progress]
        assert progress.mark is not None, "it was resolved"
        return progress.mark

    def _moved(self, progress: ReadProgress, _version: int, is_stored: bool) -> None:
        mark = progress.mark
        if not is_stored or mark is None:
            self._failed(progress)
            return
        self._idle(progress)
        for session, frame_id in progress.store(mark):
            _ok(session, frame_id)
        feed = progress.feed
        self._upstream.send(feed.shard, ReadStored(feed.topic_id, feed.epoch, mark.user_id, mark.seq))
        if progress.wanted > progress.stored and self._is_known(progress):
            self._dirty[progress] = None
            if progress.waiting or progress in self._ended:
                self._begin(progress)
        self._forget_done(progress)

    def _failed(self, progress: ReadProgress) -> None:
        """An owner is away: it is tried again, unless it was forgotten meanwhile."""
        self._idle(progress)
        if self._is_known(progress):
            self._dirty[progress] = None

    def _idle(self, progress: ReadProgress) -> None:
        """Nothing of it is under way."""
        progress.is_busy, progress.mark = False, None
        self._busy -= 1

    def _is_known(self, progress: ReadProgress) -> bool:
        return self._reads.get(progress.key) is progress

    def _give_up(self, progress: ReadProgress, refusal: Refusal) -> None:
        """The mark is refused: tells who waits, and the sessions that asked without an id."""
        self._forget(progress)
        waiting = [*progress.waiting, *((0, session, None) for session in progress.silent)]
        progress.waiting = []
        for _, session, frame_id in waiting:
            session.emit(outbound.error(refusal, frame_id, progress.feed.topic_id))

    def _forget_done(self, progress: ReadProgress) -> None:
        if progress in self._ended and not progress.is_busy and progress not in self._dirty:
            self._forget(progress)

    def _forget(self, progress: ReadProgress) -> None:
        if self._is_known(progress):
            del self._reads[progress.key]
        self._dirty.pop(progress, None)
        self._ended.pop(progress, None)


def _ok(session: Session, frame_id: FrameId) -> None:
    if frame_id is not None:
        session.emit(outbound.ok(frame_id))
