"""A user's live connections, and the end of his subscriptions to a topic, wherever he is connected.

The owner of the user's shard knows the gateways that have him, and asks them.
"""

from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link_users import AskConnections, ConnectionsAnswer, EndSubscriptions, SubscriptionsEnded
from headgate.runtime.http.call import Call, Reply, reply
from ingest.access import Access
from ingest.audit import AuditLog
from ingest.control_fields import check_user_id
from ingest.owners import OwnerQueries
from ingest.rates import Rates
from ingest.shapes import connection_shown


class ConnectionHandlers:
    """The handlers of GET /api/v1/connections and DELETE /api/v1/topics/{topic_id}/subscribe."""

    def __init__(self, access: Access, owners: OwnerQueries, rates: Rates, audit: AuditLog) -> None:
        self._access = access
        self._owners = owners
        self._rates = rates
        self._audit = audit

    async def listed(self, call: Call) -> Reply:
        """GET: the caller's connections; those of another user for an admin. Raises Refusal."""
        user_id = call.query.get("user_id", call.caller.user_id)
        if user_id != call.caller.user_id and (not call.caller.admin or call.caller.only):
            raise Refusal("forbidden", f"{call.caller.user_id} may not list the connections of others")
        check_user_id(user_id)
        self._rates.read(call.caller)
        answer = await self._owners.ask(self._owners.shard_of_user(user_id), lambda req: AskConnections(req, user_id))
        assert isinstance(answer, ConnectionsAnswer)
        connections = [connection_shown(connection, call.caller) for connection in answer.connections]
        return reply({"connections": connections, "complete": answer.complete})

    async def end(self, call: Call) -> Reply:
        """DELETE: ends the caller's live subscriptions to a topic, or those of one connection. Raises Refusal."""
        topic_id, user_id = check_topic_id(call.path_parameters["topic_id"]), call.caller.user_id
        with self._audit.operation(call, "subscriptions.end", topic_id, user_id):
            await self._access.require(topic_id, call.caller, rights.may_see, "see")
            connection_id = connection_id_of(call)
            call.check_key()
            self._rates.read(call.caller)
            answer = await self._owners.store(
                self._owners.shard_of_user(user_id),
                lambda req: EndSubscriptions(req, user_id, topic_id, connection_id),
            )
            assert isinstance(answer, SubscriptionsEnded)
            return reply({"success": True, "ended": answer.count})


def connection_id_of(call: Call) -> str | None:
    """Returns the `connection_id` of the body, else of the query string. Raises Refusal `bad_request`."""
    members = call.json_object() if call.body else {}
    if "connection_id" not in members:
        return call.query.get("connection_id")
    found = members["connection_id"]
    if not isinstance(found, str):
        raise Refusal("bad_request", "connection_id is a string")
    return found
