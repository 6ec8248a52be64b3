"""The metrics of a gateway, only counted."""


class Numbers:
    """Metrics that are only counted."""

    def __init__(self) -> None:
        self.deliveries: dict[str, int] = {}
        self.seconds: list[float] = []
        self.gaps: dict[str, int] = {}
        self.missed = 0
        self.refusals: list[str] = []
        self.details: list[str] = []
        self.links = 0
        self.events: dict[str, int] = {}
        self.again = 0
        self.slices: list[float] = []
        self.sweeps: list[float] = []

    def sliced(self, seconds: float) -> None:
        self.slices.append(seconds)

    def swept(self, seconds: float) -> None:
        self.sweeps.append(seconds)

    def redelivered(self, count: int) -> None:
        self.again += count

    def delivered(self, profile: str, count: int, seconds: float) -> None:
        self.deliveries[profile] = self.deliveries.get(profile, 0) + count
        self.seconds.append(seconds)

    def gap(self, reason: str, count: int, *, missed: bool) -> None:
        self.gaps[reason] = self.gaps.get(reason, 0) + count
        self.missed += count * missed

    def lifecycle_events(self, name: str, count: int) -> None:
        self.events[name] = self.events.get(name, 0) + count

    def link_messages(self, direction: str, count: int) -> None:
        self.links += count

    def refused(self, code: str, detail: str) -> None:
        self.refusals.append(code)
        self.details.append(detail)
