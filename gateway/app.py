"""The gateway's HTTP application: ends subscriptions by request. `gateway.protocol` takes the streams before it."""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp

from headgate.core.client.limits import Limits
from headgate.core.fanout.user_requests import UserRequests
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import Answer, AskTopic, Request
from headgate.core.wire.link_users import EndSubscriptions, SubscriptionsEnded
from headgate.core.wire.rights import Caller
from headgate.core.wire.token_buckets import MINUTE_S, Rate, TokenBuckets
from headgate.runtime.http.application import CountRefusal, HttpApp
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.callers import Users
from headgate.runtime.http.endpoints import endpoints_of
from headgate.runtime.http.paths import Paths
from headgate.runtime.links.port import AnswerLost, Directory
from headgate.runtime.ports import Clock

_ANSWER_S: Final = 5.0  # for an owner to answer; that of the user's shard waits 2 s for the other gateways


def make_app(
    limits: Limits,
    requests: UserRequests,
    directory: Directory,
    users: Users,
    clock: Clock,
    count_refusal: CountRefusal,
    fallback: ASGIApp | None = None,
) -> HttpApp:
    """Returns the application; paths that are not a gateway's go to `fallback`, or are 404."""
    handlers = {"end_subscriptions": SubscriptionEnds(requests, directory, clock, limits.reads_per_user_per_min).end}
    paths = Paths(endpoints_of("gateway"), handlers)
    return HttpApp(paths, users, count_refusal=count_refusal, deadline_s=limits.head_s, fallback=fallback)


class SubscriptionEnds:
    """The handler of DELETE /api/v1/topics/{topic_id}/subscribe."""

    def __init__(self, requests: UserRequests, directory: Directory, clock: Clock, per_min: int) -> None:
        """`per_min`: how many requests of one user are answered here a minute; each gateway counts for itself."""
        self._requests = requests
        self._directory = directory
        self._clock = clock
        self._rate = Rate(per_min / MINUTE_S, per_min)
        self._users = TokenBuckets()

    async def end(self, call: Call) -> Reply:
        """Ends the caller's live subscriptions to a topic on every gateway, or those of one `connection_id`.

        Those here end whatever happens; the owner of the user's shard has the others ended. Raises Refusal `not_ready`
        while it is away, and `outcome_unknown` where it does not answer.
        """
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        user_id, connection_id = call.caller.user_id, _connection_id(call)
        call.check_key()
        if not call.caller.service:
            self._users.require(user_id, self._rate, self._clock.now(), "this user ends subscriptions too fast")
        ended = self._requests.end(user_id, topic_id, connection_id)
        try:
            ended += await self._end_elsewhere(user_id, topic_id, connection_id)
        except (TimeoutError, AnswerLost):
            detail = "the owner of the user's shard has not answered: not all may have ended; ask again"
            raise Refusal("outcome_unknown", detail) from None
        if not ended:
            await self._require_topic(topic_id, call.caller)
        return reply({"success": True, "ended": ended})

    async def _end_elsewhere(self, user_id: str, topic_id: str, connection_id: str | None) -> int:
        shard = self._directory.shard_of_user(user_id)
        answer = await self._ask(shard, lambda req: EndSubscriptions(req, user_id, topic_id, connection_id))
        return answer.count if isinstance(answer, SubscriptionsEnded) else 0

    async def _require_topic(self, topic_id: str, caller: Caller) -> None:
        shard = self._directory.shard_of(topic_id)
        try:
            await self._ask(shard, lambda req: AskTopic(req, topic_id, caller))
        except TimeoutError:
            detail = f"the owner of shard {shard} does not answer; try again"
            raise Refusal("not_ready", detail, retry_after_ms=1_000) from None

    async def _ask(self, shard: int, build: Callable[[int], Request]) -> Answer:
        """Asks the owner of a shard. Raises Refusal and TimeoutError."""
        async with asyncio.timeout(_ANSWER_S):
            return await self._directory.ask(shard, build)


def _connection_id(call: Call) -> str | None:
    """Returns the `connection_id` of the body, else of the query string. Raises Refusal `bad_request`."""
    members = call.json_object() if call.body else {}
    if "connection_id" not in members:
        return call.query.get("connection_id")
    found = members["connection_id"]
    if not isinstance(found, str):
        raise Refusal("bad_request", "connection_id is a string")
    return found
