"""The client side of links: finds the owner of each shard and asks it; knows neither sessions nor HTTP."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from headgate.core.wire.link import Answer, Message, Request


class DirectoryUser(Protocol):
    """What a gateway or ingest hands to the directory: called on the loop, in the order of the link."""

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """Takes Messages, Volatile, Ended, Changed and Attached; `shard_epoch` is the owner's claim epoch."""

    def on_owner(self, shard: int, up: bool) -> None:
        """A shard has a linked owner now (`up`: attach what is hosted), or has lost it."""


class Directory(Protocol):
    """Requests to the owners of shards."""

    shards: int  # 0 until the first dispatcher has answered

    def shard_of(self, topic_id: str) -> int:
        """Returns the shard of a topic. Raises Refusal `not_ready` while `shards` is not known."""

    def linked(self, shard: int) -> bool:
        """Says whether the shard's owner is linked."""

    def missing(self) -> str | None:
        """Returns None when every shard's owner is linked, else one sentence for the readiness probe."""

    def request(self, shard: int, build: Callable[[int], Request], on_answer: Callable[[Answer], None]) -> None:
        """Sends `build(req)` to the owner; `on_answer` is called once, **in band** (synchronously, in link order).

        Without an owner, or when the link is lost before the answer, `on_answer` gets Refused `not_ready`.
        """

    def ask(self, shard: int, build: Callable[[int], Request]) -> "asyncio.Future[Answer]":
        """The same as a future; Refused becomes the exception Refusal. Waits without limit; the caller bounds it."""

    def send(self, shard: int, message: Message) -> None:
        """Sends a message that has no answer; nothing happens while the owner is away."""
