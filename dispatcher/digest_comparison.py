"""Compares what this node decided in a shard with what other nodes that read the same log did."""

import structlog

from dispatcher.ports import DispatcherMetrics
from headgate.core.sequencer.marks import Disagreement, Mark, Marks

logger = structlog.get_logger("dispatcher")


class DigestComparison:
    """The digests of one shard, from an offset on."""

    def __init__(self, number: int, offset: int, metrics: DispatcherMetrics) -> None:
        self.marks = Marks(offset)
        self._number = number
        self._metrics = metrics

    def reached(self, next_offset: int, digest: bytes) -> None:
        """Takes this node's digest below an offset."""
        self._compared(self.marks.add(next_offset, digest))

    def heard(self, mark: Mark) -> None:
        """Compares the digest of another node, now or once this node has read that far."""
        self._compared(self.marks.heard(mark))

    def _compared(self, found: Disagreement | None) -> None:
        """Reports two nodes that decided differently: a fault of ours, or a log that was changed."""
        if found is None:
            return
        self._metrics.disagreed()
        logger.error(
            "two nodes decided differently",
            shard=self._number,
            below=found.offset,
            ours=found.ours.hex(),
            other=found.theirs.node,
            theirs=found.theirs.digest.hex(),
        )
