"""Questions to the owners of shards, each with a time limit: verdicts, numbers of subscriptions, anything else."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from headgate.core.wire import ids
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskCount, AskVerdict, Counts, Message, Request, Verdicts
from headgate.core.wire.verdict import Verdict
from headgate.runtime.links.port import AnswerLost, Directory
from headgate.runtime.ports import Clock

ASK_S: Final = 3.0  # an owner that is linked answers in milliseconds, or is about to be replaced
OUTCOME_S: Final = 7.0  # from the request to the 504 (docs/protocol.md, section 2)
COUNT_S: Final = 0.02  # then the basis of delivered_to is "unknown" (docs/protocol.md, section 2)
ASKED_AT_ONCE: Final = 100  # of many questions, so that owners serve others between them
RETRY_S: Final = 0.25  # between questions while a shard changes hands; an owner that comes back ends the wait


class Question(NamedTuple):
    """A question to the owner of a shard; `build` makes the message with the number of the request."""

    shard: int
    build: Callable[[int], Request]


class SubscriptionCounts:
    """The numbers of subscriptions of some topics, which one shard is asked for behind this loop turn."""

    __slots__ = ("_counts", "_loop", "_places", "_waiters", "is_told")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_told = False  # whether the owner has answered, or is not waited for any longer
        self._loop = loop
        self._places: dict[str, int] = {}  # by topic: where its count is
        self._counts: list[int] = []
        self._waiters: list[asyncio.Future[None]] = []  # each has its own: one that gives up ends no other's wait

    @property
    def topic_ids(self) -> list[str]:
        """The topics, each once."""
        return list(self._places)

    def add(self, topic_id: str) -> None:
        """Asks for one topic more."""
        self._places.setdefault(topic_id, len(self._places))

    def tell(self, counts: list[int]) -> None:
        """Ends the wait; a topic without a count is unknown. Only the first call counts."""
        if self.is_told:
            return
        self._counts, self.is_told = counts, True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def told(self) -> None:
        """Waits until the owner has answered, or is not waited for any longer."""
        if not self.is_told:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def of(self, topic_id: str) -> int | None:
        """Returns the count of a topic that was asked for; None while it is not told, or the owner cannot say."""
        at = self._places[topic_id]
        return self._counts[at] if at < len(self._counts) else None


class OwnerQueries:
    """Asks through a directory. Starts no task; each question has a timer."""

    def __init__(self, directory: Directory, clock: Clock, count_s: float | None = COUNT_S) -> None:
        """`count_s`: the seconds a count may take; None where the owner is in this process, and so always answers."""
        self._directory = directory
        self._count_s = count_s
        self._clock = clock
        self._counting: dict[int, SubscriptionCounts] = {}  # asked in this loop turn, by shard
        self._returns: dict[int, asyncio.Event] = {}  # by shard, while somebody waits for its owner; set when it comes

    @property
    def shards(self) -> int:
        """The number of shards; 0 until the first dispatcher has answered."""
        return self._directory.shards

    def shard_of(self, topic_id: str) -> int:
        """Returns the shard of a topic. Raises Refusal `not_ready` while the number of shards is not known."""
        return self._directory.shard_of(topic_id)

    def shard_of_user(self, user_id: str) -> int:
        """Returns the shard of a user. Raises Refusal `not_ready` while the number of shards is not known."""
        if not self.shards:
            raise Refusal("not_ready", "no dispatcher has answered yet")
        return ids.user_shard(user_id, self.shards)

    def require(self, shard: int) -> None:
        """Raises Refusal `not_ready` while the shard's owner is away."""
        if not self._directory.linked(shard):
            raise away(shard)

    async def ask(self, shard: int, build: Callable[[int], Request]) -> Answer:
        """Returns the answer to a question that changes nothing. Raises Refusal, `not_ready` after ASK_S too."""
        try:
            async with asyncio.timeout(ASK_S):
                return await self._directory.ask(shard, build)
        except TimeoutError:
            raise away(shard) from None

    async def store(self, shard: int, build: Callable[[int], Request]) -> Answer:
        """Returns the answer to a request that changes something and may be repeated. Raises Refusal.

        That is `not_ready` while the owner is away, and `outcome_unknown` where it does not answer, or is lost before
        it does: with one `ask` before it that takes OUTCOME_S at most.
        """
        try:
            async with asyncio.timeout(OUTCOME_S - ASK_S):
                return await self._directory.ask(shard, build)
        except (TimeoutError, AnswerLost):
            detail = f"the owner of shard {shard} has not answered; it may have done it, and may be asked again"
            raise Refusal("outcome_unknown", detail) from None

    async def ask_many(self, questions: Sequence[Question]) -> list[Answer | Refusal]:
        """Returns the answer to each question that changes nothing, or its refusal; after ASK_S for all `not_ready`."""
        answers: list[Answer | Refusal] = []
        deadline = self._clock.now() + ASK_S
        for at in range(0, len(questions), ASKED_AT_ONCE):
            some, left = questions[at : at + ASKED_AT_ONCE], deadline - self._clock.now()
            if left <= 0:
                answers += [away(shard) for shard, _ in some]
                continue
            asked = [self._directory.ask(shard, build) for shard, build in some]
            await asyncio.wait(asked, timeout=left)
            answers += [_outcome_of(future, shard) for future, (shard, _) in zip(asked, some, strict=True)]
        return answers

    def ask_now(self, topic_id: str, build: Callable[[int], Request]) -> "asyncio.Future[Answer]":
        """Asks a topic's owner; the caller bounds the wait. Raises Refusal, and so does the future."""
        return self._directory.ask(self.shard_of(topic_id), build)

    def tell(self, topic_id: str, message: Message) -> None:
        """Sends a topic's owner what has no answer; nothing happens while he is away. Raises Refusal as `shard_of`."""
        self._directory.send(self.shard_of(topic_id), message)

    async def ask_all(self, build: Callable[[int, int], Request]) -> list[Answer]:
        """Returns every shard's answer to `build(req, shard)`. Raises Refusal, `not_ready` when one is away."""
        if self.shards == 0:
            raise Refusal("not_ready", "no dispatcher has answered yet")
        asked = [self._directory.ask(shard, partial(_of_shard, build, shard)) for shard in range(self.shards)]
        await asyncio.wait(asked, timeout=ASK_S)
        late = [shard for shard, future in enumerate(asked) if not future.done()]
        for shard in late:
            asked[shard].cancel()
        failed = [
            error for future in asked if not future.cancelled() and future.done() and (error := future.exception())
        ]
        if failed:
            raise failed[0]
        if late:
            raise away(late[0])
        return [future.result() for future in asked]

    async def verdicts(self, shard: int, offset: int, deadline: float) -> list[Verdict]:
        """Returns the verdicts about a record, one for each message in it; asks again while the shard changes hands.

        `deadline` is in seconds of the clock. Raises Refusal `outcome_unknown` when it has passed.
        """
        while (left := deadline - self._clock.now()) > 0:
            try:
                async with asyncio.timeout(left):
                    answer = await self._directory.ask(shard, lambda req: AskVerdict(req, shard, offset))
            except TimeoutError:
                break
            except Refusal as refusal:
                if refusal.code != "not_ready":
                    raise
                await self._owner_returns(shard, min(left, RETRY_S))
                continue
            assert isinstance(answer, Verdicts)
            return answer.verdicts
        raise Refusal("outcome_unknown", "the log has the record; the topic's owner has not said what became of it")

    def subscriptions(self, shard: int, topic_id: str) -> SubscriptionCounts:
        """Asks for the topic's number of subscriptions; what is returned has it in time, or None.

        The questions of one loop turn to one shard are sent as one.
        """
        asking = self._counting.get(shard)
        if asking is None:
            loop = asyncio.get_running_loop()  # once for all topics: each look is a system call (getpid)
            asking = self._counting[shard] = SubscriptionCounts(loop)
            loop.call_soon(self._ask_counts, shard)
        asking.add(topic_id)
        return asking

    def on_owner(self, shard: int, up: bool) -> None:
        """Called when the link to a shard's owner was opened (`up`) or lost."""
        event = self._returns.pop(shard, None) if up else None
        if event is not None:
            event.set()

    def _ask_counts(self, shard: int) -> None:
        asking = self._counting.pop(shard)
        timer: asyncio.TimerHandle | None = None
        if self._count_s is not None:
            timer = asyncio.get_running_loop().call_later(self._count_s, asking.tell, [])

        def on_answer(answer: Answer) -> None:
            if timer is not None:
                timer.cancel()
            asking.tell(answer.counts if isinstance(answer, Counts) else [])

        topic_ids = asking.topic_ids
        self._directory.request(shard, lambda req: AskCount(req, shard, topic_ids), on_answer)

    async def _owner_returns(self, shard: int, wait_s: float) -> None:
        event = self._returns.setdefault(shard, asyncio.Event())
        try:
            async with asyncio.timeout(wait_s):
                await event.wait()
        except TimeoutError:
            return


def away(shard: int) -> Refusal:
    """Returns the refusal for a shard without an owner."""
    return Refusal("not_ready", f"the owner of shard {shard} is away; this heals within seconds")


def _outcome_of(future: "asyncio.Future[Answer]", shard: int) -> Answer | Refusal:
    if not future.done():
        future.cancel()
        return away(shard)
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, Refusal):
        return error
    raise error


def _of_shard(build: Callable[[int, int], Request], shard: int, req: int) -> Request:
    return build(req, shard)
