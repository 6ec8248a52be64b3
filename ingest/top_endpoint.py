"""The first topics and users of the whole installation, for operators, asked of the owners of all shards."""

from typing import Any

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_stats import AskTop, TopAnswer, TopEntry
from headgate.core.wire.top_lists import merged
from headgate.runtime.http.call import Call, Reply, reply
from ingest.owners import OwnerQueries, Question
from ingest.rates import Rates


class TopEndpoint:
    """The handler of GET /api/v1/top."""

    def __init__(self, owners: OwnerQueries, rates: Rates) -> None:
        self._owners = owners
        self._rates = rates

    async def show(self, call: Call) -> Reply:
        """GET: the lists, as long as the dispatchers keep them. Raises Refusal."""
        caller = call.caller
        self._rates.read(caller)
        if not caller.admin or caller.only:
            raise Refusal("forbidden", f"{caller.user_id} may not see the topics and users of all")
        if not self._owners.shards:
            raise Refusal("not_ready", "no dispatcher has answered yet")
        answers = await self._owners.ask_many([_question(shard) for shard in range(self._owners.shards)])
        told = [answer for answer in answers if isinstance(answer, TopAnswer)]
        found = merged([answer.lists for answer in told], max((answer.size for answer in told), default=0))
        return reply(
            {
                "topic_members": _exact("topic_id", found.members),
                "topic_messages_per_hour": _about(found.messages),
                "topic_failures": _about(found.failures),
                "inbox_backlog": _exact("user_id", found.backlogs),
                "complete": len(told) == len(answers),
            }
        )


def _question(shard: int) -> Question:
    return Question(shard, lambda req: AskTop(req, shard))


def _exact(name: str, entries: list[TopEntry]) -> list[dict[str, Any]]:
    return [{name: entry.id, "count": entry.count} for entry in entries]


def _about(entries: list[TopEntry]) -> list[dict[str, Any]]:
    return [{"topic_id": entry.id, "count": entry.count, "error": entry.error} for entry in entries]
