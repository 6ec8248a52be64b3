"""The engine under sockets that stop and go, owners that come and go, and rings that forget: invariants by name."""

import random
from collections.abc import Callable

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout.pace import DEFAULT_PACE, Pace
from tests.core.scene import Pipe, Scene

TOPICS = ("a", "b", "c")
STEPS = 300


class Run:
    """A seeded schedule over six subscribers of three topics."""

    def __init__(self, seed: int, pace: Pace) -> None:
        self.chance = random.Random(seed)
        limits = Limits(ring_frames=20, ring_bytes=20_000, slow_messages=100_000, heartbeat_s=1e9)
        self.scene = Scene(limits, pace=pace)
        self.scene.owners.slow = seed % 2 == 1
        for topic in TOPICS:
            self.scene.owners.create(topic)
        self.pipes = [self._follower() for _ in range(6)]

    def _follower(self) -> Pipe:
        return self.scene.socket(*self.chance.sample(TOPICS, self.chance.randint(1, 3)), form="earliest")

    def step(self) -> None:
        steps: dict[Callable[[], None], int] = {
            self._publish: 9,
            self.scene.turn: 3,
            self._jam: 3,
            self._take: 3,
            self._owner: 1,
            self._second: 1,
            self._deliver: 6,
        }
        self.chance.choices(list(steps), list(steps.values()))[0]()

    def settle(self) -> None:
        if not self.scene.owners.up:
            self.scene.owners.come()
        self.scene.owners.deliver()
        self.scene.owners.slow = False
        for pipe in self.pipes:
            pipe.stuck = False
            pipe.drain()
        self.scene.pass_time(5)

    def _deliver(self) -> None:
        self.scene.owners.deliver(self.chance.randint(1, 20))

    def _publish(self) -> None:
        payload = "y" * self.chance.randint(1, 3_000)
        self.scene.publish(self.chance.choice(TOPICS), *[payload] * self.chance.randint(1, 40))

    def _jam(self) -> None:
        pipe = self.chance.choice(self.pipes)
        pipe.stuck = not pipe.stuck

    def _take(self) -> None:
        self.chance.choice(self.pipes).take(self.chance.randint(1, 200_000))

    def _owner(self) -> None:
        if self.scene.owners.up:
            self.scene.owners.go()
        else:
            self.scene.owners.come()

    def _second(self) -> None:
        self.scene.pass_time(1)


@pytest.mark.parametrize("pace", [DEFAULT_PACE, Pace(plain_sockets=1, block_sockets=1, slice_sockets=1)])
@pytest.mark.parametrize("seed", range(12))
def test_whoever_follows_continuously_gets_each_message_once_in_order(seed: int, pace: Pace) -> None:
    run = Run(seed, pace)
    for _ in range(STEPS):
        run.step()
    run.settle()
    for pipe in run.pipes:
        assert pipe.highest <= 1 << 20, "R1"
        assert pipe.session is not None and not run.scene.hub.catchup.behind(pipe.session)
        for topic in pipe.session.subscriptions:
            got = [f["seq"] for f in pipe.frames("message") if f["topic_id"] == topic]
            assert got == list(range(1, run.scene.owners.topics[topic].seq + 1)), "D1"
            assert len([f for f in pipe.frames("caught_up") if f["topic_id"] == topic]) == 1
