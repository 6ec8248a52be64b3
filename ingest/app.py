"""The HTTP application of an ingest: its handlers by the names that the table of endpoints has for them."""

from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import quote

from headgate.runtime.http.application import CountRefusal, HttpApp
from headgate.runtime.http.call import Call, Handler, Reply
from headgate.runtime.http.callers import Users
from headgate.runtime.http.endpoints import endpoints_of
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.http.paths import Paths
from ingest.alias_endpoints import AliasEndpoints
from ingest.api_documents import asyncapi, openapi
from ingest.batch import BatchEndpoints
from ingest.dead_letter_endpoints import DeadLetterEndpoints
from ingest.direct_endpoint import DirectEndpoint
from ingest.event_streams import EventStreams
from ingest.history import HistoryEndpoint
from ingest.inbox_endpoints import InboxEndpoints
from ingest.message_endpoints import MessageEndpoints
from ingest.publish import PublishEndpoint
from ingest.rates import Rates
from ingest.revocation_endpoint import RevocationEndpoint
from ingest.ticket_endpoint import TicketEndpoint
from ingest.top_endpoint import TopEndpoint
from ingest.topic_members import MemberHandlers
from ingest.topic_stats import TopicStatsHandlers
from ingest.topic_subscribers import SubscriberHandlers
from ingest.topic_updates import TopicUpdates
from ingest.topics import TopicHandlers
from ingest.user_connections import ConnectionHandlers

_CHARGE_LATER: Final = frozenset({"publish", "publish_batch", "publish_any_batch", "edit_message"})
_OF_GATEWAY: Final = frozenset(row.path for row in endpoints_of("gateway"))


def make_app(
    handlers: Mapping[str, Handler],
    users: Users,
    budget: MemoryBudget,
    count_refusal: CountRefusal,
    *,
    redirect_streams: bool,
    body_bytes: int,
    batch_bytes: int,
    deadline_s: float,
) -> HttpApp:
    """Returns the application. `redirect_streams` is false where a gateway on the same port serves its own paths.

    `body_bytes` and `batch_bytes` bound bodies, `deadline_s` the time for a body to come.
    """
    rows = [row for row in endpoints_of("ingest") if redirect_streams or row.path not in _OF_GATEWAY]
    served = {row.handler for row in rows}
    named = {name: handler for name, handler in handlers.items() if name in served}
    bounds = {"limits.body_bytes": body_bytes, "limits.batch_bytes": batch_bytes}
    paths = Paths(rows, named, bounds)
    return HttpApp(paths, users, budget=budget, count_refusal=count_refusal, deadline_s=deadline_s)


def handlers_of(
    topics: TopicHandlers,
    updates: TopicUpdates,
    members: MemberHandlers,
    subscribers: SubscriberHandlers,
    connections: ConnectionHandlers,
    publish: PublishEndpoint,
    batches: BatchEndpoints,
    history: HistoryEndpoint,
    messages: MessageEndpoints,
    aliases: AliasEndpoints,
    tickets: TicketEndpoint,
    revocations: RevocationEndpoint,
    direct: DirectEndpoint,
    events: EventStreams,
    letters: DeadLetterEndpoints,
    stats: TopicStatsHandlers,
    inbox: InboxEndpoints,
    top: TopEndpoint,
) -> dict[str, Handler]:
    """Returns the handlers by name."""
    return {
        "create_topic": topics.create,
        "list_topics": topics.listed,
        "show_topic": topics.show,
        "update_topic": updates.update,
        "delete_topic": topics.remove,
        "list_members": members.listed,
        "set_member": members.put,
        "remove_member": members.remove,
        "list_subscribers": subscribers.listed,
        "list_connections": connections.listed,
        "end_subscriptions": connections.end,
        "publish": publish.one,
        "publish_batch": batches.of_topic,
        "publish_any_batch": batches.of_any,
        "history": history.page,
        "show_message": messages.show,
        "edit_message": messages.edit,
        "redact_message": messages.redact,
        "add_reaction": messages.react,
        "remove_reaction": messages.unreact,
        "redirect_stream": redirect_stream,
        "create_ticket": tickets.create,
        "create_revocation": revocations.create,
        "openapi": openapi,
        "asyncapi": asyncapi,
        "create_direct_topic": direct.create,
        "watch_events": events.watch,
        "list_dead_letters": letters.listed,
        "show_dead_letter": letters.show,
        "purge_dead_letter": letters.purge,
        "replay_dead_letter": letters.replay,
        "topic_stats": stats.show,
        "flush_topic": stats.flush,
        "show_top": top.show,
        **aliases.handlers,
        **inbox.handlers,
    }


def with_charged_bodies(handlers: Mapping[str, Handler], rates: Rates) -> dict[str, Handler]:
    """Returns the handlers, which take the bytes of a body from the user's rate before they read it.

    Those that name the topic in their path take them themselves, once it is known and the caller may.
    """
    return {
        name: handler if name in _CHARGE_LATER else partial(_charge, rates, handler)
        for name, handler in handlers.items()
    }


async def _charge(rates: Rates, handler: Handler, call: Call) -> Reply:
    if call.body:
        rates.body(call.caller, len(call.body))
    return await handler(call)


async def redirect_stream(call: Call) -> Reply:
    """Sends a client that asks an ingest for a stream to the gateway's path on the same host."""
    location = b"/sse/subscribe?topic_id=" + quote(call.path_parameters["topic_id"], safe=":").encode()
    if call.query_string:
        location += b"&" + call.query_string
    return Reply(307, b"{}", ((b"location", location),))
