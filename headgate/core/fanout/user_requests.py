"""What the owner of a user's shard asks of a gateway: to end his subscriptions, to list his connections."""

from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.inbound import DEFAULT_DEVICE
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.ports import Moment
from headgate.core.fanout.session import Session
from headgate.core.wire.link import FromOwner
from headgate.core.wire.link_acks import Cursor, CursorLease, ReplaceSubscription, SubscriptionReplaced
from headgate.core.wire.link_users import (
    AskConnections,
    ConnectedTopic,
    Connection,
    ConnectionsAnswer,
    EndSubscriptions,
    SubscriptionsEnded,
    UserRoute,
)

CONNECTIONS: Final = 1_000  # of one user that are listed; a service may have more
SUBSCRIPTIONS: Final = 10_000  # of one user that are listed: about 1 MB on the link


class UserRequests:
    """Serves the owners of all shards. `gateway` is this gateway's name in a list of connections."""

    def __init__(self, hub: Hub, gateway: str) -> None:
        self._hub = hub
        self._gateway = gateway

    def receive(self, message: FromOwner, moment: Moment) -> None:
        """Does what an owner asks, and answers it."""
        if isinstance(message, EndSubscriptions):
            count = self.end(message.user_id, message.topic_id, message.connection_id)
            self._answer(message.user_id, SubscriptionsEnded(message.req, count))
        elif isinstance(message, AskConnections):
            self._answer(message.user_id, self._list(message, moment))
        elif isinstance(message, ReplaceSubscription):
            self._answer(message.lease.user_id, SubscriptionReplaced(message.req, self.replace(message.lease)))
        else:
            self._bound(message.users)

    def end(self, user_id: str, topic_id: str, connection_id: str | None = None) -> int:
        """Ends a user's subscriptions to a topic, all or one connection's; returns how many there were."""
        ended = 0
        for session in self._hub.connections.of(user_id):
            subscription = session.subscriptions.get(topic_id)
            if subscription is not None and connection_id in (None, session.connection_id):
                self._hub.unsubscribe(subscription, "ended")
                ended += 1
        return ended

    def replace(self, lease: CursorLease) -> Cursor | None:
        """Ends the subscription of a lease, or the subscribe that is to become one; returns its cursor."""
        for session in self._hub.connections.of(lease.user_id):
            if session.connection_id == lease.connection_id and self._hub.pending.withdraw_lease(session, lease):
                session.emit(outbound.unsubscribed(lease.topic_id, "replaced"))
                self._hub.proceed(session)
        return self._hub.acknowledging.replace(lease)

    def _answer(self, user_id: str, answer: SubscriptionsEnded | ConnectionsAnswer | SubscriptionReplaced) -> None:
        self._hub.upstream.send(self._hub.connections.shard_of(user_id), answer)

    def _bound(self, users: list[UserRoute]) -> None:
        """Ends the sessions above the bound of users that have others elsewhere."""
        for route in users:
            for session in self._hub.connections.too_many(route.user_id, route.connections):
                self._hub.turn_away(session, route.user_id)

    def _list(self, ask: AskConnections, moment: Moment) -> ConnectionsAnswer:
        connections: list[Connection] = []
        topics = 0
        for session in self._hub.connections.of(ask.user_id):
            topics += session.follows
            if len(connections) == CONNECTIONS or topics > SUBSCRIPTIONS:
                return ConnectionsAnswer(ask.req, connections, complete=False)
            connections.append(self._describe(session, ask.user_id, moment))
        return ConnectionsAnswer(ask.req, connections)

    def _describe(self, session: Session, user_id: str, moment: Moment) -> Connection:
        is_websocket = session.framing is WEBSOCKET
        alive_at = session.heard_at if is_websocket else session.beat_at  # an SSE client sends nothing
        return Connection(
            connection_id=session.connection_id,
            user_id=user_id,
            device_id=self._hub.connections.device(session) or DEFAULT_DEVICE,
            connected_at=session.opened_ms,
            last_heartbeat=max(moment.wall_ms - int((moment.now - alive_at) * 1_000), session.opened_ms),
            gateway=self._gateway,
            transport="websocket" if is_websocket else "sse",
            subscriptions=[
                ConnectedTopic(f"{session.connection_id}:{topic_id}", topic_id, subscription.begun_ms)
                for topic_id, subscription in session.subscriptions.items()
            ],
        )
