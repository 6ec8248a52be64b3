"""A scene whose topics are swept in small slices, one at a time."""

from typing import Any

from headgate.core.client.limits import Limits
from headgate.core.fanout.pace import Pace
from headgate.core.fanout.session import Subscription, TopicFeed
from headgate.core.wire.link_inbox import TopicHeat
from tests.core.scene import Pipe, Scene

SMALL = Pace(plain_sockets=2, block_sockets=2, slice_sockets=2)  # slices of one block


class SweepScene(Scene):
    """`a` is followed by more sockets than are written to at once."""

    def __init__(self, pace: Pace = SMALL, limits: Limits | None = None, **options: Any) -> None:
        super().__init__(limits, pace=pace, **options)

    def crowd(self, count: int, topic: str = "a", **how: Any) -> list[Pipe]:
        """Creates a topic and opens sockets that follow it."""
        if topic not in self.owners.topics:
            self.owners.create(topic)
        return [self.socket(topic, user=f"u{n}", **how) for n in range(count)]

    def slice(self) -> None:
        """Lets the loop turn once."""
        if self.scheduled:
            self.scheduled -= 1
            self.hub.flush(self.moment)
            self.counts.report()

    def feed(self, topic: str = "a") -> TopicFeed:
        return self.hub.feeds[topic]

    def heat(self, heat: str, topic: str = "a", epoch: int = 0) -> None:
        self.hub.on_push(1, TopicHeat(topic, epoch or self.feed(topic).epoch, heat))

    @property
    def is_quiet(self) -> bool:
        return not self.scheduled and not self.hub.sweeps


def subscription(pipe: Pipe, topic: str = "a") -> Subscription:
    assert pipe.session is not None
    return pipe.session.subscriptions[topic]


def served(pipes: list[Pipe]) -> list[int]:
    """Returns how many messages each has got."""
    return [len(pipe.frames("message")) for pipe in pipes]
