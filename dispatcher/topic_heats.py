"""How the topics of one shard are delivered: counts them when that may have changed, and tells their gateways.

Nothing is done for a message. A topic is counted when a subscription or a member comes or goes, and at the end of a
dwell. While a gateway's link is lost, what its topics were counted at before stays: it is open again within 2 s.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from dispatcher.fences import Host
from dispatcher.node import Node
from headgate.core.sequencer.heat import Heat, HeatBounds, Heats, Switch, hinted
from headgate.core.sequencer.routes import Routes
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_inbox import TopicHeat
from headgate.core.wire.topic_settings import heat_bounds

KNOWS_HEAT: Final = 2  # the version of a link from which on a gateway knows it
GRACE_S: Final = 6.0  # as for presence (`shard_presence`)
SLICE_TOPICS: Final = 5_000  # looked through in one loop turn, of a shard that has become live


H = TypeVar("H", bound=Host)
OnSwitch = Callable[[Row, Switch], None]


class TopicHeats(Generic[H]):
    """The heats of one shard. It counts from `begin` on; before that, `get` returns the hints of the snapshot.

    `switched` is called with each switch, once the row has the new hint.
    """

    def __init__(
        self,
        rows: Mapping[bytes, Row],
        shard: Shard,
        routes: Routes[H],
        node: Node,
        switched: OnSwitch,
    ) -> None:
        self._rows = rows
        self._shard = shard
        self._routes = routes
        self.usual = node.options.usual  # the settings of topics that name none
        self._dwell_s = node.options.hot_dwell_s
        self._clock = node.shell.clock
        self._switched = switched
        self._heats: Heats | None = None
        self._grace_until = float("-inf")
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # loop time; a handle of uvloop does not say it once it is due
        self._closed = False

    def begin(self) -> None:
        """The shard is live here: topics are counted from now on. Those with a hint, or with members, first."""
        self._heats = Heats(self._dwell_s, self._clock.now())
        self._look_through(list(self._rows), 0)

    def close(self) -> None:
        """The shard is no longer served here."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def get(self, row: Row) -> Heat:
        """Returns how a topic is delivered now."""
        return hinted(row.heat) if self._heats is None else self._heats.get(row.topic_id, row.heat)

    def number_of(self, heat: Heat) -> int:
        """Returns how many topics are paced, or in the inbox."""
        return 0 if self._heats is None else self._heats.number_of(heat)

    # -- what may change a heat

    def changed(self, row: Row) -> None:
        """A topic's subscriptions, members or settings may be others."""
        heats = self._heats
        if heats is None or self._closed:
            return
        now, topic_id = self._clock.now(), row.topic_id
        count = max(self._routes.count(topic_id), self._shard.member_count(topic_key(topic_id)))
        if now < self._grace_until:
            count = max(count, heats.count(topic_id))
        bounds = HeatBounds(*heat_bounds(row.settings, self.usual))
        switch = heats.counted(topic_id, count, bounds, now, row.heat)
        if switch is not None:
            row.heat = "" if switch.new is Heat.DIRECT else str(switch.new)
            self._switched(row, switch)
        self._plan(now)

    def changed_id(self, topic_id: str) -> None:
        """Does the same for a topic that may be gone."""
        row = self._rows.get(topic_key(topic_id))
        if row is not None:
            self.changed(row)

    def lost_gateway(self) -> None:
        """The subscriptions of a gateway are not known now: only when the grace is over they count as gone."""
        if self._heats is None:
            return
        self._grace_until = self._clock.now() + GRACE_S
        for topic_id in self._heats.warm():
            self._heats.look_again(topic_id, self._grace_until)
        self._plan(self._clock.now())

    def deleted(self, topic_id: str) -> None:
        """The topic is gone."""
        if self._heats is not None:
            self._heats.forget(topic_id)

    # -- who is told

    def tell(self, row: Row) -> None:
        """Tells the gateways that host a topic. What came before goes out before."""
        for route in self._routes.hosts(row.topic_id):
            self._tell(route.gateway, row)

    def attached(self, gateway: H, row: Row) -> None:
        """A gateway announced a topic. It takes it for direct where it is told nothing."""
        if self.get(row) is not Heat.DIRECT:
            self._tell(gateway, row)

    def _tell(self, gateway: H, row: Row) -> None:
        if gateway.version >= KNOWS_HEAT:
            gateway.send(TopicHeat(row.topic_id, row.epoch, str(self.get(row))))

    # -- time

    def _look_through(self, keys: list[bytes], at: int) -> None:
        """Counts the topics that may not be direct, among some thousand a loop turn."""
        if self._closed:
            return
        members = self._shard.members
        for key in keys[at : at + SLICE_TOPICS]:
            row = self._rows.get(key)
            if row is not None and (row.heat or key in members):
                self.changed(row)
        if at + SLICE_TOPICS < len(keys):
            asyncio.get_running_loop().call_soon(self._look_through, keys, at + SLICE_TOPICS)

    def _plan(self, now: float) -> None:
        due = None if self._heats is None else self._heats.next_due
        if due is None or self._closed:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(due - now, 0.0)
        if self._timer is None or self._timer_at > at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = loop.call_at(at, self._due), at

    def _due(self) -> None:
        self._timer = None
        if self._heats is None or self._closed:
            return
        now = self._clock.now()
        for topic_id in self._heats.due(now):
            self.changed_id(topic_id)
        self._plan(now)
