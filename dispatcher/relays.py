"""Publishes to the ephemeral topics of one shard: sent on to the gateways at once, kept nowhere."""

from collections.abc import Callable, Mapping
from functools import partial

from dispatcher.ports import DispatcherMetrics
from dispatcher.shard import Destination, ShardOwner
from headgate.core.delivery.lifecycle_events import Outcome
from headgate.core.sequencer.load import Load
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link, link_deliveries, link_ephemeral, rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import ephemeral_frame
from headgate.runtime.ports import Shell


class Relays:
    """Sends them on, unless the node is overloaded, and answers how many sockets took a message of either profile.

    `row_of` finds a topic. `is_known` says whether every gateway has announced its subscriptions, and if not handles
    the request, of so many bytes, once they have. Both raise Refusal, and so do the `handlers`.
    """

    def __init__(
        self,
        owner: ShardOwner,
        shell: Shell[DispatcherMetrics],
        load: Load,
        row_of: Callable[[str], Row],
        is_known: Callable[[Destination, link_ephemeral.Relay, int], bool],
    ) -> None:
        self._owner = owner
        self._shell = shell
        self._load = load
        self._row_of = row_of
        self._is_known = is_known
        self.handlers: Mapping[type, Callable[..., None]] = {
            link_ephemeral.Relay: self._relay,
            link_deliveries.ExpectDeliveries: self._expect,
            link_deliveries.AskDelivered: self._delivered,
            link_deliveries.ForgetDeliveries: self._forget,
            link_deliveries.Written: self._owner.counted.written,
        }

    def _relay(self, peer: Destination, ask: link_ephemeral.Relay) -> None:
        row = self._row_of(ask.topic_id)
        if row.epoch != ask.epoch or not row.ephemeral:
            raise rights.unknown_topic(ask.topic_id)
        if not self._is_known(peer, ask, len(ask.tail)):
            return
        self._require_room(row, ask)
        if ask.low and self._load.sheds:
            self._owner.owner_events.relayed(row, ask.tail, self._shell.clock.wall_ms(), Outcome.REJECTED)
            peer.send(link_ephemeral.Relayed(ask.req, 0, True))
            return
        wait_s = 0.0 if ask.unmetered else self._owner.topic_rates.relay(row, self._shell.clock.now())
        if wait_s:
            retry_after_ms = int(1_000 * wait_s) + 1
            raise Refusal("rate_limited", "the publish rate of this topic is used up", retry_after_ms=retry_after_ms)
        self._send(row, ask)
        self._owner.tallies.relayed(row)
        peer.send(link_ephemeral.Relayed(ask.req, self._owner.routes.count(row.topic_id)))

    def _require_room(self, row: Row, ask: link_ephemeral.Relay) -> None:
        """Raises Refusal `queue_full`."""
        queues = self._owner.queues
        try:
            queues.require(row)
        except Refusal:
            now, depth = self._shell.clock.wall_ms(), queues.depth(row.topic_id)
            self._owner.owner_events.relayed(row, ask.tail, now, Outcome.REJECTED, depth)
            raise

    def _send(self, row: Row, ask: link_ephemeral.Relay) -> None:
        now = self._shell.clock.wall_ms()
        message = link.EphemeralMessages(row.topic_id, row.epoch, [now], [ephemeral_frame(row.topic_id, now, ask.tail)])
        self._owner.owner_events.relayed(row, ask.tail, now)
        hosts = self._owner.routes.hosts(row.topic_id)
        gateways = [route.gateway for route in hosts if not route.gateway.congested]  # a slow link misses the message
        if ask.id:
            self._owner.counted.pushed(row.epoch, ask.id, 0, gateways)
        for gateway in gateways:
            gateway.send(message)
            self._shell.metrics.link_messages("out", 1)

    def _expect(self, peer: Destination, ask: link_deliveries.ExpectDeliveries) -> None:
        if self._row_of(ask.topic_id).epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        self._owner.counted.expect(ask.topic_id, ask.epoch, ask.ids)
        peer.send(link_deliveries.DeliveriesExpected(ask.req))

    def _forget(self, peer: Destination, told: link_deliveries.ForgetDeliveries) -> None:
        self._owner.counted.forget(told.epoch, told.ids)

    def _delivered(self, peer: Destination, ask: link_deliveries.AskDelivered) -> None:
        self._owner.counted.ask(ask.epoch, ask.id, ask.wait_ms / 1_000, partial(_tell, peer, ask.req))


def _tell(peer: Destination, req: int, count: int) -> None:
    if peer.open:
        peer.send(link_deliveries.Delivered(req, count))
