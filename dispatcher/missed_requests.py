"""Answers what somebody has missed in several topics of one shard: messages as they are now, oldest topic first.

One request after the other is served, a slice a loop turn. First the oldest missed message of each topic is looked for,
which orders the topics; then messages are taken until a bound is reached. A topic that changed between its slice and
the answer (a redaction, a member who left) is taken again. Where they change faster than they can be taken, the answer
has so few messages that a single slice makes it, in which nothing changes. A request whose ingest waits no longer is
given up.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from dispatcher.answering import answer_with
from dispatcher.page_builder import SeqRange
from dispatcher.reading import Reading
from dispatcher.shard import Destination, ShardOwner
from dispatcher.sliced_work import ANSWER_S, refuse_overdue
from headgate.core.sequencer.rows import Row
from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_inbox import (
    MISSED_BYTES,
    MISSED_MESSAGES,
    MISSED_TOPICS,
    AskMissed,
    Missed,
    MissedMessages,
    MissedTopic,
)
from headgate.core.wire.rights import Caller

SLICE: Final = 25  # topics of one slice: about 3 ms
TAKEN: Final = 100  # messages of one slice: about 3 ms more
RETAKEN: Final = 5  # times that topics are taken again, before fewer messages are
IN_ONE_SLICE: Final = SLICE - 1  # messages, each of another topic at most; one more topic says whether that is all
WAITING_TOPICS: Final = 200_000  # of all requests that are not answered: about 40 MB
WAITING_IN_LOG: Final = 64  # requests that hold messages, up to 1 MB each, and wait for others from the log
RETRY_MS: Final = 1_000


class _Next(enum.Enum):
    """What follows on a slice."""

    END = enum.auto()
    GO_ON = enum.auto()
    WAIT = enum.auto()


class _MissedPlace:
    """A topic with something missed, and what was taken of it, as of `others` changes (-1: nothing yet)."""

    __slots__ = ("epoch", "first_seq", "first_ts", "frames", "next_seq", "others", "topic_id")

    def __init__(self, topic: MissedTopic, first_seq: int, first_ts: int) -> None:
        self.topic_id = topic.topic_id
        self.epoch = topic.epoch
        self.first_seq = first_seq
        self.first_ts = first_ts
        self.next_seq = first_seq
        self.others = -1
        self.frames: list[bytes] = []


class _Search:
    """One request: topics to look at, places to take from (the next is the last), and those that are taken."""

    def __init__(self, peer: Destination, ask: AskMissed) -> None:
        self.peer = peer
        self.ask = ask
        self.until = asyncio.get_running_loop().time() + ANSWER_S
        self.next = _Next.END
        self.looking = deque((topic, topic.after_seq) for topic in {t.topic_id: t for t in ask.topics}.values())
        self.limit = ask.limit
        self.retaken = 0
        self.found: list[_MissedPlace] = []
        self.taken: list[_MissedPlace] = []
        self.count = 0
        self.size = 0
        self.whole = True

    def sort(self) -> None:
        """Brings the places into the order in which they are taken."""
        self.found.sort(key=lambda place: (place.first_ts, place.topic_id), reverse=True)

    def take(self, place: _MissedPlace, frame: bytes) -> bool:
        """Takes a message; false, and not taken, where there is no room for it."""
        if self.count and self.size + len(frame) > MISSED_BYTES:
            return False
        place.frames.append(frame)
        self.count += 1
        self.size += len(frame)
        return True

    def take_again(self, changed: list[_MissedPlace]) -> None:
        """Topics changed after they were taken."""
        self.retaken += 1
        if self.retaken > RETAKEN:
            changed, self.limit = self.taken, max(min(self.limit // 2, IN_ONE_SLICE), 1)
        for place in changed:
            self._take_back(place)
        self.taken = [place for place in self.taken if place.frames]
        self.found += changed
        self.sort()

    def _take_back(self, place: _MissedPlace) -> None:
        self.count -= len(place.frames)
        self.size -= sum(map(len, place.frames))
        place.frames, place.next_seq, place.others = [], place.first_seq, -1

    def drop_place(self) -> None:
        """Nothing is taken from the present place after all."""
        self._take_back(self.found.pop())

    def end_place(self) -> None:
        """Nothing more is taken from the present place."""
        place = self.found.pop()
        if place.frames:
            self.taken.append(place)

    def cut(self) -> None:
        """A bound is reached, and there is more."""
        self.whole = False
        self.end_place()
        self.found.clear()

    def answer(self) -> Missed:
        """Returns the answer."""
        self.taken.sort(key=lambda place: (place.first_ts, place.topic_id))
        topics = [MissedMessages(place.topic_id, place.first_ts, place.frames) for place in self.taken]
        return Missed(self.ask.req, topics, self.whole)


class MissedRequests:
    """Serves one shard."""

    def __init__(self, owner: ShardOwner, reading: Reading) -> None:
        self.handlers: Mapping[type, Callable[..., None]] = {AskMissed: self._missed}
        self._owner = owner
        self._reading = reading
        self._searches: dict[_Search, None] = {}  # all that are not answered
        self._topics = 0  # of all of them
        self._queue: deque[_Search] = deque()  # those that do not wait
        self._in_log: set[_Search] = set()  # those that wait for messages from the log

    # -- requests and their turns

    def _missed(self, peer: Destination, ask: AskMissed) -> None:
        """Takes a request; where no other is served its first slice is done at once. Raises Refusal."""
        if not 1 <= ask.limit <= MISSED_MESSAGES:
            raise Refusal("bad_request", f"limit {ask.limit}, expected 1 to {MISSED_MESSAGES}")
        if len(ask.topics) > MISSED_TOPICS:
            raise Refusal("bad_request", f"{len(ask.topics)} topics, expected at most {MISSED_TOPICS}")
        if self._topics + len(ask.topics) > WAITING_TOPICS:
            self._forget_closed()
        if self._topics + len(ask.topics) > WAITING_TOPICS:
            raise Refusal("overloaded", "too many ask this shard for what they missed", retry_after_ms=RETRY_MS)
        search = _Search(peer, ask)
        self._searches[search] = None
        self._topics += len(ask.topics)
        self._queue.append(search)
        if len(self._queue) == 1:
            self._turn()

    def _turn(self) -> None:
        """Does one slice of the oldest request."""
        search = self._queue[0]
        search.next = _Next.END
        if search.peer.open:
            answer_with(partial(self._slice, search), search.peer, search.ask)
        if search.next is not _Next.GO_ON:
            self._queue.popleft()
        if search.next is _Next.END:
            self._end(search)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._turn)

    def _again(self, search: _Search) -> None:
        """Goes on with a request that has waited."""
        self._in_log.discard(search)
        if search in self._searches:
            self._queue.append(search)
            if len(self._queue) == 1:
                asyncio.get_running_loop().call_soon(self._turn)

    def _end(self, search: _Search) -> None:
        del self._searches[search]
        self._topics -= len(search.ask.topics)

    def _forget_closed(self) -> None:
        """Forgets requests whose link was closed while they waited: nobody calls back for them."""
        queued = set(self._queue)
        for search in [search for search in self._searches if not search.peer.open and search not in queued]:
            self._end(search)

    # -- slices

    def _slice(self, search: _Search, peer: Destination, ask: AskMissed) -> None:
        """Raises Refusal."""
        if self._owner.closed:
            raise _not_yet(f"shard {self._owner.number} was given up")
        refuse_overdue(search.until)
        if search.looking:
            if not self._look(search):
                return
            search.sort()
        if search.found and not self._take(search):
            return
        changed = [place for place in search.taken if not self._is_as_taken(search, place)]
        if not changed:
            peer.send(search.answer())
            return
        search.take_again(changed)
        search.next = _Next.GO_ON

    def _look(self, search: _Search) -> bool:
        """Looks for the oldest missed message of some topics; returns whether all were looked at. Raises Refusal."""
        for _ in range(SLICE):
            if not search.looking:
                return True
            topic, after_seq = search.looking[0]
            row = self._readable(search.ask.caller, topic.topic_id, topic.epoch)
            low = 0
            if row is not None and after_seq < row.seq:
                begin = self._reading.begin(row, after_seq)
                if begin is None:
                    self._wait_for_history(search, row)
                    return False
                low = self._place(search, row, topic, begin)
            if low:
                search.looking[0] = topic, low
            else:
                search.looking.popleft()
        if search.looking:
            search.next = _Next.GO_ON
        return not search.looking

    def _place(self, search: _Search, row: Row, topic: MissedTopic, begin: int) -> int:
        """Notes the oldest message of a topic from a seq on; returns how far was looked, 0 where that is all."""
        if begin > row.seq:
            return 0
        kept, edge = self._reading.first_message(row, begin)
        if kept is not None:
            search.found.append(_MissedPlace(topic, kept.seq, kept.ts))
        return edge

    def _take(self, search: _Search) -> bool:
        """Takes messages of some topics; returns whether all was taken that there is room for. Raises Refusal."""
        before, looked = search.count, 0
        while search.found and looked < SLICE and search.count - before < TAKEN:
            looked += 1
            place = search.found[-1]
            row = self._readable(search.ask.caller, place.topic_id, place.epoch)
            if row is None:
                search.drop_place()
            elif search.count >= search.limit:
                self._end_at_limit(search, place, row)
            elif not self._take_of(search, place, row):
                return False
        if search.found:
            search.next = _Next.GO_ON
        return not search.found

    def _take_of(self, search: _Search, place: _MissedPlace, row: Row) -> bool:
        """Takes some messages of one topic; returns False where it has to wait. Raises Refusal."""
        begin = self._reading.begin(row, place.next_seq - 1)
        if begin is None:
            self._wait_for_history(search, row)
            return False
        if place.others < 0:
            place.others = row.others
        most = min(search.limit - search.count, TAKEN)
        page = self._reading.messages(row, begin, most, MISSED_BYTES)
        if isinstance(page, SeqRange):
            self._wait_for_log(search, row, page)
            return False
        if not all(search.take(place, frame) for frame in page.frames):
            search.cut()
        elif page.edge or len(page.frames) == most:
            place.next_seq = max(page.edge, page.last) + 1
        else:
            search.end_place()
        return True

    def _end_at_limit(self, search: _Search, place: _MissedPlace, row: Row) -> None:
        """The limit is reached: says whether there is more."""
        kept, edge = self._reading.first_message(row, place.next_seq)
        if kept is not None or edge:
            search.cut()
        else:
            search.end_place()

    def _readable(self, caller: Caller, topic_id: str, epoch: int) -> Row | None:
        """Returns a topic in this epoch, None where the caller may not read its history."""
        row = self._owner.rows.get(topic_key(topic_id))
        if row is None or row.epoch != epoch or row.ephemeral:
            return None
        role = self._owner.shard.role(topic_key(topic_id), row, caller.user_id)
        return row if rights.may_subscribe(caller, row, role) else None

    def _is_as_taken(self, search: _Search, place: _MissedPlace) -> bool:
        """Returns whether what was taken of a topic is what the caller may get now."""
        row = self._readable(search.ask.caller, place.topic_id, place.epoch)
        return row is not None and row.others == place.others

    # -- waiting

    def _wait_for_history(self, search: _Search, row: Row) -> None:
        if self._owner.history.crowded:
            raise _not_yet("too many wait for this shard's history")
        search.next = _Next.WAIT
        self._owner.history.wait(row.epoch, search.peer, partial(self._again, search))

    def _wait_for_log(self, search: _Search, row: Row, page: SeqRange) -> None:
        if len(self._in_log) >= WAITING_IN_LOG:
            self._in_log = {each for each in self._in_log if each.peer.open}
        if len(self._in_log) >= WAITING_IN_LOG or self._owner.pages.crowded:
            raise _not_yet("too many wait for old messages of this shard")
        search.next = _Next.WAIT
        self._in_log.add(search)
        self._owner.pages.want(row, page.absent, search.peer, partial(self._again, search))


def _not_yet(why: str) -> Refusal:
    return Refusal("not_ready", why, retry_after_ms=RETRY_MS)
