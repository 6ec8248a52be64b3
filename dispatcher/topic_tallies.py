"""What happened to the messages of one shard's topics, as gateways and ingests tell; it is kept in snapshots."""

from collections.abc import Callable, Mapping

from dispatcher.shard_tops import ShardTops
from headgate.core.sequencer.rows import Row, Tally
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_stats import TopicDelivered, TopicPublishes


class TopicTallies:
    """The tallies in the rows of a shard, by topic key; `touch` notes that a row differs from the newest snapshot.

    What is told of another epoch than the topic's is dropped. `tops` has lists of at most `top` of the first topics.
    """

    def __init__(
        self, rows: Mapping[bytes, Row], touch: Callable[[bytes], None], top: int, wall_ms: Callable[[], int]
    ) -> None:
        self.tops = ShardTops(top, wall_ms)
        self._rows = rows
        self._touch = touch

    def delivered(self, told: TopicDelivered) -> None:
        """Takes what a gateway counted."""
        tally = self._of(told.topic_id, told.epoch)
        if tally is not None:
            tally.delivered += told.delivered
            tally.latency_ms += told.latency_ms
            tally.failed += told.failed
            tally.retried += told.retried
            self.tops.failed(told.topic_id, told.failed)

    def rejected(self, told: TopicPublishes) -> None:
        """Takes how many publishes an ingest refused."""
        tally = self._of(told.topic_id, told.epoch) if told.rejected else None
        if tally is not None:
            tally.rejected += told.rejected

    def relayed(self, row: Row) -> None:
        """A message of an ephemeral topic was sent on."""
        self.tops.relayed(row.topic_id)
        tally = self._of(row.topic_id, row.epoch)
        if tally is not None:
            tally.relayed += 1

    def dead_lettered(self, topic_id: str, epoch: int, count: int = 1) -> None:
        """So many of a topic's deliveries were given up, and are dead letters now."""
        tally = self._of(topic_id, epoch)
        if tally is not None:
            tally.dead_lettered += count

    def _of(self, topic_id: str, epoch: int) -> Tally | None:
        key = topic_key(topic_id)
        row = self._rows.get(key)
        if row is None or row.epoch != epoch:
            return None
        self._touch(key)
        if row.tally is None:
            row.tally = Tally()
        return row.tally
