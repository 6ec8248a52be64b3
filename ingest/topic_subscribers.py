"""Who follows a topic, over HTTP: GET /api/v1/topics/{topic_id}/subscribers."""

from headgate.core.wire import rights
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link_presence import AskPresence, PresenceAnswer
from headgate.core.wire.present_user import present_user
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.queries import page_limit
from ingest.access import Access
from ingest.control_fields import check_user_id
from ingest.owners import OwnerQueries
from ingest.pages import read_page, write_page
from ingest.rates import Rates


class SubscriberHandlers:
    """The topic's owner knows its users on all gateways."""

    def __init__(self, access: Access, owners: OwnerQueries, rates: Rates) -> None:
        self._access = access
        self._owners = owners
        self._rates = rates

    async def listed(self, call: Call) -> Reply:
        """GET: a page of the users that are listed, ascending by user id, and the count of all. Raises Refusal."""
        topic_id, caller = check_topic_id(call.path_parameters["topic_id"]), call.caller
        self._rates.read(caller)
        await self._access.require(topic_id, caller, rights.may_know_presence, "see who follows")
        limit = page_limit(call.query)
        after = read_page(call.query.get("page"), check_user_id)
        shard = self._owners.shard_of(topic_id)
        answer = await self._owners.ask(shard, lambda req: AskPresence(req, topic_id, caller, after, limit + 1))
        assert isinstance(answer, PresenceAnswer)
        shown = answer.users[:limit]
        following = write_page(shown[-1].user_id) if len(answer.users) > limit else None
        return reply({"subscribers": [present_user(u) for u in shown], "count": answer.count, "next_page": following})
