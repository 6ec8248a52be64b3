"""The client side of links: finds the owner of each shard and asks it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Message, Refused, Request
from headgate.core.wire.linkcodec import refusal_of

OnAnswer = Callable[[Answer], None]


class Unanswered(Refused):
    """Refused `not_ready`, by the directory itself: the owner was lost after it was asked, and may have acted."""


class AnswerLost(Refusal):
    """The exception for Unanswered."""


class DirectoryUser(Protocol):
    """The gateway or ingest behind a directory. Called on the loop, in the order of the link."""

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """Takes a message that nobody here asked for; `shard_epoch` is the claim epoch of the owner that sent it.

        What concerns no shard alone (Revocations, Ingests, Numbered) comes with epoch 0. The questions of an owner
        (EndSubscriptions, AskConnections) are answered with `Directory.send` to the user's shard.
        """

    def on_owner(self, shard: int, up: bool) -> None:
        """A shard has a linked owner now (`up`: attach what is hosted), or has lost it."""


class Directory(Protocol):
    """Requests to the owners of shards."""

    shards: int  # 0 until the first dispatcher has answered

    def deliver_to(self, user: DirectoryUser) -> None:
        """Names the one object that gets pushes and news of owners. Until then pushes are dropped."""

    def shard_of(self, topic_id: str) -> int:
        """Returns the shard of a topic. Raises Refusal `not_ready` while `shards` is not known."""

    def shard_of_user(self, user_id: str) -> int:
        """Returns the shard of a user. Raises Refusal `not_ready` while `shards` is not known."""

    def linked(self, shard: int) -> bool:
        """Returns whether the shard's owner is linked."""

    @property
    def has_links(self) -> bool:
        """Whether a dispatcher is linked, whatever it owns."""

    def missing(self) -> str | None:
        """Returns None when every shard's owner is linked, else one sentence for the readiness probe."""

    def request(self, shard: int, build: Callable[[int], Request], on_answer: OnAnswer) -> None:
        """Sends `build(req)` to the owner; `on_answer` is called once, **in band** (synchronously, in link order).

        Without an owner `on_answer` gets Refused `not_ready`; when the owner is lost before the answer, Unanswered.
        """

    def ask(self, shard: int, build: Callable[[int], Request]) -> "asyncio.Future[Answer]":
        """Like `request`, but returns a future; Refused becomes the exception Refusal, Unanswered AnswerLost.

        The future may wait without limit: the caller bounds it.
        """

    def send(self, shard: int, message: Message) -> None:
        """Sends a message that has no answer; nothing happens while the owner is away."""


def future_answer() -> "tuple[asyncio.Future[Answer], OnAnswer]":
    """Returns a future and the `on_answer` that ends it; see `Directory.ask`."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def on_answer(answer: Answer) -> None:
        if future.done():
            return
        if isinstance(answer, Unanswered):
            future.set_exception(AnswerLost(answer.code, answer.detail))
        elif isinstance(answer, Refused):
            future.set_exception(refusal_of(answer))
        else:
            future.set_result(answer)

    return future, on_answer
