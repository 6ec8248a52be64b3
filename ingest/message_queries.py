"""Questions about single messages to the owners of their topics, which decide what the caller may do with them."""

import asyncio
from collections.abc import Collection
from typing import Final, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text, shard_of_id
from headgate.core.wire.link_messages import AskMessage, MessageAnswer
from headgate.core.wire.rights import Caller, unknown_topic
from headgate.runtime.http.memory_budget import Share
from ingest.owners import ASK_S, OwnerQueries, Question

LISTS: Final = 2  # of versions that one shard's owner makes at a time for this ingest: 10 ms each, in one loop turn
LIST_BYTES: Final = 16 << 20  # of the longest and its JSON: must be free, else an owner may work for nothing


class Parent(NamedTuple):
    """A message that a publish to a topic replies to."""

    topic_id: str
    message_id: bytes


class MessageQueries:
    """Asks for messages by their ids."""

    def __init__(self, owners: OwnerQueries) -> None:
        self._owners = owners
        self._lists: dict[int, asyncio.Semaphore] = {}  # by shard

    async def ask(
        self,
        caller: Caller,
        topic_id: str,
        message_id: bytes,
        purpose: str,
        *,
        reaction: str = "",
        versions: bool = False,
    ) -> MessageAnswer:
        """Returns the message as it is now, if the caller may do with it what `purpose` says (AskMessage).

        `topic_id` is "" where the id alone names it. Raises Refusal.
        """
        shard = self._shard_of(topic_id, message_id)
        try:
            answer = await self._owners.ask(
                shard,
                lambda req: AskMessage(req, shard, topic_id, caller, message_id, purpose, reaction, versions),
            )
        except Refusal as refusal:
            raise _told(refusal, topic_id, message_id) from None
        assert isinstance(answer, MessageAnswer)
        return answer

    async def ask_versions(self, caller: Caller, topic_id: str, message_id: bytes, share: Share) -> MessageAnswer:
        """Returns the message with its versions; the caller counts them to `share`. Raises Refusal.

        Such an answer has up to 8 MiB: few are made at a time, so that an owner serves others between them.
        """
        turns = self._lists.setdefault(self._owners.shard_of(topic_id), asyncio.Semaphore(LISTS))
        try:
            async with asyncio.timeout(ASK_S):
                await turns.acquire()
        except TimeoutError:
            raise Refusal("overloaded", "too many versions of messages are being read; try again later") from None
        try:
            share.require_room(LIST_BYTES)
            return await self.ask(caller, topic_id, message_id, "read", versions=True)
        finally:
            turns.release()

    async def refused_parents(self, caller: Caller, parents: Collection[Parent]) -> dict[Parent, Refusal]:
        """Returns the refusal for each of these messages that a publish of the caller cannot reply to."""
        questions = [self._about_parent(caller, parent) for parent in parents]
        answers = await self._owners.ask_many(questions)
        return {
            parent: _told(answer, *parent)
            for parent, answer in zip(parents, answers, strict=True)
            if isinstance(answer, Refusal)
        }

    def _about_parent(self, caller: Caller, parent: Parent) -> Question:
        topic_id, message_id = parent
        shard = self._owners.shard_of(topic_id)
        return Question(shard, lambda req: AskMessage(req, shard, topic_id, caller, message_id, "reply"))

    def _shard_of(self, topic_id: str, message_id: bytes) -> int:
        if topic_id:
            return self._owners.shard_of(topic_id)
        if not self._owners.shards:
            raise Refusal("not_ready", "no dispatcher has answered yet")
        return shard_of_id(message_id, self._owners.shards)


def unknown_message(message_id: bytes) -> Refusal:
    """Returns the refusal for a message that does not exist, or not for this caller."""
    return Refusal("message_not_found", f"there is no message {id_text(message_id)}")


def _told(refusal: Refusal, topic_id: str, message_id: bytes) -> Refusal:
    """Returns the refusal as the client gets it: a message of a hidden topic is absent like one that never was."""
    if refusal.code == "topic_not_found" and topic_id:
        return unknown_topic(topic_id)
    if refusal.code in ("topic_not_found", "message_not_found"):
        return unknown_message(message_id)
    return refusal
