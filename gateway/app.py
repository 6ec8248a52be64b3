"""The gateway's HTTP application: ends subscriptions by request. `gateway.protocol` takes the streams before it."""

import asyncio
from typing import Final

from starlette.types import ASGIApp

from gateway.sessions import Sessions
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import AskTopic
from headgate.core.wire.rights import Caller
from headgate.runtime.http.application import CountRefusal, HttpApp
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.callers import Users
from headgate.runtime.http.endpoints import endpoints_of
from headgate.runtime.http.paths import Paths
from headgate.runtime.links.port import Directory

_ANSWER_S: Final = 5.0  # for the owner to answer whether there is such a topic


def make_app(
    sessions: Sessions,
    directory: Directory,
    users: Users,
    count_refusal: CountRefusal,
    fallback: ASGIApp | None = None,
) -> HttpApp:
    """Returns the application; paths that are not a gateway's go to `fallback`, or are 404."""
    handlers = {"end_subscriptions": SubscriptionEnds(sessions, directory).end}
    paths = Paths(endpoints_of("gateway"), handlers)
    deadline_s = sessions.limits.head_s
    return HttpApp(paths, users, count_refusal=count_refusal, deadline_s=deadline_s, fallback=fallback)


class SubscriptionEnds:
    """The handler of DELETE /api/v1/topics/{topic_id}/subscribe."""

    def __init__(self, sessions: Sessions, directory: Directory) -> None:
        self._sessions = sessions
        self._directory = directory

    async def end(self, call: Call) -> Reply:
        """Ends the caller's live subscriptions to a topic on this gateway, or those of one `connection_id`."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        ended = self._sessions.unsubscribe_user(call.caller.user_id, topic_id, _connection_id(call))
        if not ended:
            await self._require_topic(topic_id, call.caller)
        return reply({"success": True, "ended": ended})

    async def _require_topic(self, topic_id: str, caller: Caller) -> None:
        shard = self._directory.shard_of(topic_id)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._directory.ask(shard, lambda req: AskTopic(req, topic_id, caller))
        except TimeoutError:
            raise Refusal("not_ready", "the topic's owner does not answer; try again") from None


def _connection_id(call: Call) -> str | None:
    """Returns the `connection_id` of the body, else of the query string. Raises Refusal `bad_request`."""
    members = call.json_object() if call.body else {}
    if "connection_id" not in members:
        return call.query.get("connection_id")
    found = members["connection_id"]
    if not isinstance(found, str):
        raise Refusal("bad_request", "connection_id is a string")
    return found
