"""What a dispatcher needs of the process around it: the numbers that it counts."""

from typing import Protocol


class DispatcherMetrics(Protocol):
    """The counters and histograms that a dispatcher feeds."""

    def sequenced(self, verdict: str, count: int = 1) -> None:
        """Counts verdicts; `verdict` is the code's name in lower case."""

    def dead_letter(self, reason: str, count: int = 1) -> None:
        """Counts dead letters."""

    def lifecycle_events(self, name: str, count: int) -> None:
        """Counts lifecycle events that the owner of a topic sees."""

    def letters_evicted(self, count: int) -> None:
        """Counts open dead letters that had to make room for newer ones."""

    def pointers(self, records: int) -> None:
        """Counts pointer bundles that are in the inbox log."""

    def inbox_skipped(self) -> None:
        """Counts a record of the inbox log that cannot be read."""

    def inbox_applied(self) -> None:
        """Counts a record of the inbox log that was applied."""

    def inbox_hints(self, count: int) -> None:
        """Counts hints about new messages that connected users were sent."""

    def link_messages(self, direction: str, count: int = 1) -> None:
        """Counts messages on links; `direction` is "in" or "out"."""

    def snapshot_failed(self, reason: str) -> None:
        """Counts a snapshot that was not written, or not as it should be: "too_large", "log" or "content"."""

    def worked(self, work: str, seconds: float) -> None:
        """Notes how long one slice of background work held the event loop."""

    def disagreed(self) -> None:
        """Counts a shard that two nodes decided differently."""
