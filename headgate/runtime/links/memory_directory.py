"""A directory in memory: the owner of every shard is in this process and answers at once."""

import asyncio
from collections.abc import Callable

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.link import Answer, Message, Refused, Request
from headgate.runtime.links.port import DirectoryUser, OnAnswer, future_answer
from headgate.runtime.ports import ignore


class MemoryDirectory:
    """Implements the port `Directory`. While `up` is False, no shard has an owner.

    `answer` is the owner: it returns the answer to a request. `take` gets each message that has no answer.
    """

    def __init__(
        self, shards: int, answer: Callable[[Request], Answer], take: Callable[[Message], None] = ignore
    ) -> None:
        self.shards = shards
        self.up = True
        self._answer = answer
        self._take = take
        self._user: DirectoryUser | None = None
        self._next_req = 1

    def deliver_to(self, user: DirectoryUser) -> None:
        """Names the one object that gets pushes and news of owners; see the port."""
        self._user = user

    def shard_of(self, topic_id: str) -> int:
        """Returns the shard of a topic. Raises Refusal `not_ready` while `shards` is 0."""
        if not self.shards:
            raise Refusal("not_ready", "no dispatcher has been reached yet", retry_after_ms=1_000)
        return shard_of(topic_key(topic_id), self.shards)

    def shard_of_user(self, user_id: str) -> int:
        """Returns the shard of a user. Raises Refusal `not_ready` while `shards` is 0."""
        return self.shard_of(user_id)

    def linked(self, shard: int) -> bool:
        """Returns whether the shard has an owner."""
        return self.up

    @property
    def has_links(self) -> bool:
        """Whether the shards have owners."""
        return self.up

    def missing(self) -> str | None:
        """Returns None while the shards have owners, else one sentence."""
        return None if self.up else "the owners of all shards are away"

    def request(self, shard: int, build: Callable[[int], Request], on_answer: OnAnswer) -> None:
        """Asks the owner; `on_answer` gets Refused `not_ready` while there is none."""
        req = self._next_req
        self._next_req += 1
        if self.up:
            self._ask(build(req), on_answer)
        else:
            on_answer(Refused(req, "not_ready", f"the owner of shard {shard} is away"))

    def ask(self, shard: int, build: Callable[[int], Request]) -> "asyncio.Future[Answer]":
        """Like `request`, but returns a future; Refused becomes the exception Refusal."""
        future, on_answer = future_answer()
        self.request(shard, build, on_answer)
        return future

    def send(self, shard: int, message: Message) -> None:
        """Sends a message that has no answer; nothing happens while the shard has no owner."""
        if self.up:
            self._take(message)

    def push(self, message: Message, shard_epoch: int = 1) -> None:
        """Gives the user a push of an owner."""
        if self._user is not None:
            self._user.on_push(shard_epoch, message)

    def lose_owners(self) -> None:
        """Takes all owners away and tells the user."""
        self._turn(up=False)

    def regain_owners(self) -> None:
        """Brings all owners back and tells the user."""
        self._turn(up=True)

    def _ask(self, request: Request, on_answer: OnAnswer) -> None:
        on_answer(self._answer(request))

    def _turn(self, *, up: bool) -> None:
        self.up = up
        if self._user is not None:
            for shard in range(self.shards):
                self._user.on_owner(shard, up)
