"""What a device of a user has missed: places from the owner of the user's shard, messages from the topics' owners.

No message is passed over in silence: where an owner is away, or a bound ends the search, the answer says that there is
more.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Final

from headgate.core.publish.missed_merge import NOTHING, MissedPart, frames_of, merged
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Request
from headgate.core.wire.link_inbox import AskMissed, AskMissedTopics, Missed, MissedTopic, MissedTopics
from headgate.core.wire.rights import Caller
from headgate.runtime.http.call import Call
from headgate.runtime.ports import Clock
from ingest.owners import ASK_S, OUTCOME_S, OwnerQueries, Question

ROUNDS: Final = 10  # pages of topics: those of which nothing but events is new do not end the search
SHARDS_AT_ONCE: Final = 16  # each answers with 1 MiB at most
ANSWER_BYTES: Final = 8 * 1024 * 1024  # of the frames of one answer, at least one
_AWAY: Final = ("not_ready", "overloaded")  # heals by waiting: the answer says that there is more


class MissedSearch:
    """One search for at most `limit` messages, in at most OUTCOME_S."""

    def __init__(self, owners: OwnerQueries, clock: Clock, call: Call, device_id: str, limit: int) -> None:
        self._owners = owners
        self._clock = clock
        self._call = call
        self._device_id = device_id
        self._limit = limit
        self._until = clock.now() + OUTCOME_S - ASK_S  # the last question may take ASK_S
        self._part = NOTHING
        self._asked: set[str] = set()  # a topic that moves meanwhile is on a later page of topics again
        self._is_more = False
        self._is_answered = False
        self._refusal: Refusal | None = None  # of an owner of topics, the first
        self._taken = 0  # bytes that the call's share counts

    async def run(self) -> tuple[list[bytes], bool]:
        """Returns the frames, and whether there is more. Raises Refusal where no owner of topics answers."""
        await self._search()
        if self._refusal is not None and not self._is_answered:
            raise self._refusal
        return frames_of(self._part), self._is_more or not self._part.whole

    async def _search(self) -> None:
        after = MissedTopic("", 0, 0, -1)
        for _ in range(ROUNDS):
            page = await self._page(after)
            if page is None:
                break
            await self._ask([topic for topic in page.topics if topic.topic_id not in self._asked])
            if not page.more:
                return
            if not page.topics or self._is_full():
                break
            after = page.topics[-1]
        self._is_more = True

    async def _page(self, after: MissedTopic) -> MissedTopics | None:
        """Returns the topics behind a place; None where the owner of the user's shard went away between two pages."""
        user_id = self._call.caller.user_id
        try:
            answer = await self._owners.ask(
                self._owners.shard_of_user(user_id),
                lambda req: AskMissedTopics(req, user_id, self._device_id, after.head_ts, after.topic_id),
            )
        except Refusal as refusal:
            if not after.topic_id or refusal.code not in _AWAY:
                raise
            return None
        assert isinstance(answer, MissedTopics)
        return answer

    async def _ask(self, topics: list[MissedTopic]) -> None:
        """Asks the owners of these topics, SHARDS_AT_ONCE, and merges what they answer."""
        self._asked.update(topic.topic_id for topic in topics)
        by_shard = defaultdict[int, list[MissedTopic]](list)
        for topic in topics:
            by_shard[self._owners.shard_of(topic.topic_id)].append(topic)
        questions = [
            Question(shard, _about(shard, self._call.caller, some, self._limit)) for shard, some in by_shard.items()
        ]
        for at in range(0, len(questions), SHARDS_AT_ONCE):
            if self._clock.now() > self._until:
                self._is_more = True
                return
            answers = await self._owners.ask_many(questions[at : at + SHARDS_AT_ONCE])
            self._take([part for answer in answers if (part := self._part_of(answer)) is not None])

    def _part_of(self, answer: Answer | Refusal) -> MissedPart | None:
        if isinstance(answer, Refusal):
            if answer.code not in _AWAY:
                raise answer
            self._refusal = self._refusal or answer
            self._is_more = True
            return None
        assert isinstance(answer, Missed)
        self._is_answered = True
        self._is_more |= not answer.whole
        return MissedPart(answer.topics, answer.whole)

    def _take(self, parts: list[MissedPart]) -> None:
        """Merges parts into what there is; the share counts the largest that is held at once."""
        before = _bytes_of(self._part)
        self._hold(before + sum(map(_bytes_of, parts)))
        self._part = merged([self._part, *parts], self._limit, ANSWER_BYTES)
        self._hold(2 * _bytes_of(self._part))  # and the body made of them

    def _hold(self, size: int) -> None:
        if size > self._taken:
            self._call.share.grow(size - self._taken)
            self._taken = size

    def _is_full(self) -> bool:
        """Returns whether another page of topics could add nothing, or time is over."""
        return not self._part.whole or len(frames_of(self._part)) >= self._limit or self._clock.now() > self._until


def _about(shard: int, caller: Caller, topics: list[MissedTopic], limit: int) -> Callable[[int], Request]:
    return partial(_question, shard, caller, topics, limit)


def _question(shard: int, caller: Caller, topics: list[MissedTopic], limit: int, req: int) -> Request:
    return AskMissed(req, shard, caller, topics, limit)


def _bytes_of(part: MissedPart) -> int:
    return sum(map(len, frames_of(part)))
