"""Dead letters over HTTP: list those of a topic or of all that the caller administers, show, replay and purge one."""

from heapq import merge
from typing import Any, Final

import msgspec

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id, id_bytes, shard_of_id
from headgate.core.wire.link_dead_letters import (
    AskDeadLetters,
    ChangeDeadLetter,
    DeadLetterChanged,
    DeadLettersAnswer,
    LetterShown,
)
from headgate.core.wire.timestamps import rfc3339
from headgate.runtime.http.call import NO_CONTENT, Call, Reply, reply
from headgate.runtime.http.queries import page_limit
from ingest.audit import Action, AuditLog
from ingest.keyed_operations import KeyedOperations
from ingest.owners import OwnerQueries
from ingest.pages import read_page, write_page
from ingest.rates import Rates
from ingest.user_turns import UserTurns

LISTED: Final = 2_000  # letters that all shards together are asked for: of a page at most 1,000 are shown


class DeadLetterEndpoints:
    """The handlers of `/api/v1/dead-letters` and of one letter below it. The topics' owners decide who may."""

    def __init__(
        self, owners: OwnerQueries, keyed: KeyedOperations, rates: Rates, audit: AuditLog, turns: UserTurns
    ) -> None:
        self._owners = owners
        self._keyed = keyed
        self._rates = rates
        self._audit = audit
        self._turns = turns

    async def listed(self, call: Call) -> Reply:
        """GET: a page of letters that are not being replayed, ascending by id. Raises Refusal."""
        topic_id = call.query.get("topic_id")
        if topic_id is not None:
            check_topic_id(topic_id)
        limit, after = page_limit(call.query), read_page(call.query.get("page"), check_letter_id)
        self._rates.read(call.caller)
        async with self._turns.of(call.caller.user_id):
            answers = await self._ask(call, topic_id, after, limit)
        # A shard that has more may have them above its last one: the page ends at the lowest such id.
        ends = [answer.letters[-1].id for answer in answers if answer.more and answer.letters]
        known = list(merge(*(answer.letters for answer in answers), key=lambda letter: letter.id))
        page = [letter for letter in known if not ends or letter.id <= min(ends)][:limit]
        more = bool(ends) or len(known) > len(page)
        following = write_page(page[-1].id) if page and more else None
        return reply({"dead_letters": [letter_shown(letter) for letter in page], "next_page": following})

    async def _ask(self, call: Call, topic_id: str | None, after: str, limit: int) -> list[DeadLettersAnswer]:
        if topic_id is not None:
            shard = self._owners.shard_of(topic_id)
            answer = await self._owners.ask(
                shard, lambda req: AskDeadLetters(req, shard, topic_id, call.caller, after, limit)
            )
            return [answer] if isinstance(answer, DeadLettersAnswer) else []
        some = min(limit, -(-LISTED // max(1, self._owners.shards)))
        found = await self._owners.ask_all(lambda req, shard: AskDeadLetters(req, shard, "", call.caller, after, some))
        return [answer for answer in found if isinstance(answer, DeadLettersAnswer)]

    async def show(self, call: Call) -> Reply:
        """GET of one: the letter, and its message as it is now. Raises Refusal."""
        letter_id = check_letter_id(call.path_parameters["id"])
        self._rates.read(call.caller)
        shard = self._shard_of(letter_id)
        answer = await self._owners.ask(
            shard, lambda req: AskDeadLetters(req, shard, "", call.caller, "", 1, letter_id)
        )
        assert isinstance(answer, DeadLettersAnswer)
        (letter,) = answer.letters
        message = msgspec.Raw(letter.message) if letter.message else None
        return reply({**letter_shown(letter), "replaying": letter.replaying, "message": message})

    async def replay(self, call: Call) -> Reply:
        """POST: delivers the message again to whom it was for. Raises Refusal."""
        letter_id = check_letter_id(call.path_parameters["id"])
        return reply({"id": letter_id, "topic_id": await self._change(call, "dead_letter.replay", letter_id)}, 202)

    async def purge(self, call: Call) -> Reply:
        """DELETE: removes the letter. Raises Refusal."""
        await self._change(call, "dead_letter.purge", check_letter_id(call.path_parameters["id"]))
        return NO_CONTENT

    async def _change(self, call: Call, action: Action, letter_id: str) -> str:
        """Returns the letter's topic, "" where an earlier purge with the same key may have been the one that did it."""
        operation = f"{action} {letter_id}"
        with self._audit.operation(call, action) as entry:
            entry.change = f"id={letter_id}"
            keyed = self._keyed.read(call, operation)
            done = self._keyed.answer(call, operation)
            if done is not None:
                return done
            self._rates.read(call.caller)
            shard, purge = self._shard_of(letter_id), action == "dead_letter.purge"
            try:
                answer = await self._owners.store(
                    shard, lambda req: ChangeDeadLetter(req, shard, letter_id, call.caller, purge)
                )
            except Refusal as refusal:
                if refusal.code == "outcome_unknown":
                    self._keyed.add(keyed)
                elif purge and refusal.code == "not_found" and self._keyed.is_known(call, operation):
                    return ""
                raise
            assert isinstance(answer, DeadLetterChanged)
            self._keyed.add(keyed, answer.topic_id)
            entry.topic_id = answer.topic_id
            return answer.topic_id

    def _shard_of(self, letter_id: str) -> int:
        if not self._owners.shards:
            raise Refusal("not_ready", "no dispatcher has answered yet")
        return shard_of_id(id_bytes(letter_id), self._owners.shards)


def check_letter_id(text: str) -> str:
    """Returns the id of a dead letter. Raises Refusal `bad_request`."""
    try:
        id_bytes(text)
    except Refusal:
        raise Refusal("bad_request", "the id of a dead letter is UUID text in lower case") from None
    return text


def letter_shown(letter: LetterShown) -> dict[str, Any]:
    """Returns a dead letter as lists show it; `group` is that of a consumer group only."""
    user_id, device_id, group = letter.receiver.user_id, letter.receiver.device_id, letter.receiver.group
    shown = {
        "id": letter.id,
        "topic_id": letter.topic_id,
        "epoch": letter.epoch,
        "seq": letter.seq,
        "message_id": letter.message_id or None,
        "user_id": user_id or None,
        "device_id": device_id or None,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "last_error": letter.last_error,
        "at": rfc3339(letter.at),
    }
    return {**shown, "group": group} if group else shown
