"""What a worker takes as acknowledged, unknown, refused and given up; when its publishes are due; states of a fault."""

import asyncio
import math
import random
import time
from types import SimpleNamespace
from typing import cast

import pytest

from tests.e2e.clients import Answer
from tests.soak.balancer import OUT_S, Balancer
from tests.soak.chaos_page import ASSUMED
from tests.soak.faults import Faults, Scene
from tests.soak.load import AGAIN_S, BATCHES, Load, Pace, singles
from tests.soak.states import ANOTHER, BURST, NOT_READY, RECREATED, STATES, STEADY, Surroundings
from tests.soak.subject import Subject

GOOD = Answer(200, {"results": []}, 0.0)
BUSY = Answer(503, {"code": "log_unavailable"}, 0.0)


class Scripted(Load):
    """Gets one answer after the other, then only good ones; every request takes `takes_s`."""

    takes_s = 0.0

    def __init__(self, pace: Pace, *answers: Answer | None, seed: int = 7) -> None:
        super().__init__("w", [], "", [Subject("t")], seed, pace)
        self.subject = self._subjects[0]
        self.script = list(answers)
        self.paths: list[str] = []

    async def create(self, subject: Subject) -> None:
        """It is there."""

    async def _call(self, method: str, path: str, body: object) -> Answer | None:
        self.paths.append(path)
        await asyncio.sleep(self.takes_s)
        return self.script.pop(0) if self.script else GOOD

    async def publish_now(self, count: int = 1) -> None:
        """Publishes as often."""
        for _ in range(count):
            await self._publish(self.subject, time.monotonic())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.soak.load.AGAIN_S", (0.0, 0.0))
    monkeypatch.setattr("tests.soak.load.REPEATED", 0.0)
    assert AGAIN_S[1] > 0


async def test_one_message_is_a_single_publish_and_more_are_a_batch() -> None:
    one = Scripted(singles(1.0))
    await one.publish_now(3)
    assert set(one.paths) == {"/api/v1/topics/t/publish"}
    assert (one.acked, one.publishes, one.subject.settled) == (3, 3, 3)
    many = Scripted(Pace(1.0, ((1.0, 1_000),), 0.0))
    await many.publish_now()
    assert many.paths == ["/api/v1/topics/t/publish/batch"]
    assert (many.acked, many.publishes) == (many.subject.count, 1)
    assert many.does == "bursts" if many.subject.count >= 500 else "publishes"


async def test_without_an_answer_only_what_has_an_id_is_sent_again() -> None:
    load = Scripted(Pace(1.0, ((1.0, 1_000),), 0.0), None)
    await load.publish_now()
    assert len(load.subject.maybe) == load.subject.count - load.acked > 0
    assert load.acked > 0 and not load.subject.refused


async def test_of_what_is_refused_a_part_is_given_up_and_the_rest_is_sent_again() -> None:
    load = Scripted(Pace(1.0, ((1.0, 1_000),), 0.0), BUSY)
    await load.publish_now()
    assert load.refused == load.subject.count
    assert 0 < len(load.subject.refused) == load.subject.count - load.acked < load.subject.count / 10
    assert not load.subject.maybe


async def test_a_publish_with_no_outcome_is_late() -> None:
    load = Scripted(singles(1.0))
    while not load.subject.maybe:
        load.script = [None]
        await load.publish_now()
    assert list(load.timely.late) and load.publishes == load.timely.in_time.total()


async def test_publishes_are_due_while_one_takes_long() -> None:
    load = Scripted(singles(0.01))
    load.takes_s = 0.2
    stop = asyncio.Event()
    task = asyncio.create_task(load.run(stop))
    await load.began.wait()
    dues: list[float] = []
    load.timely.add = lambda due, done, count=1: dues.append(due)  # type: ignore[method-assign]
    while len(dues) < 4:
        await asyncio.sleep(0.01)
    stop.set()
    await task
    assert dues[3] - dues[0] < 0.2, "due as planned, not when the one before was answered"


def test_the_balancer_leaves_out_what_failed_for_a_while_and_never_all() -> None:
    now, rng = 100.0, random.Random(7)
    balancer = Balancer(3, lambda: now)

    def chosen() -> set[int]:
        return {balancer.choose(rng) for _ in range(100)}

    assert chosen() == {0, 1, 2}
    balancer.failed(1)
    assert chosen() == {0, 2}
    now += OUT_S - 0.1
    balancer.failed(0)
    balancer.failed(2)
    assert chosen() == {0, 1, 2}
    now += 0.1
    assert chosen() == {1}
    now += OUT_S
    assert chosen() == {0, 1, 2}


def test_a_pattern_that_is_no_fault_says_which_there_are() -> None:
    roles = SimpleNamespace(dispatchers=[], gateways=[], ingests=[])
    scene = SimpleNamespace(deployment=roles, cluster=SimpleNamespace(nodes=()), interposers={})
    assert {kind.name for kind in Faults(cast("Scene", scene), 7, "^broker killed$").kinds} == {"broker killed"}
    assert not any("clock" in kind.name or "disk" in kind.name for kind in Faults(cast("Scene", scene), 7).kinds)
    with pytest.raises(ValueError, match="there are dispatcher killed,"):
        Faults(cast("Scene", scene), 7, "earthquake")


def test_a_month_has_every_fault_that_is_played() -> None:
    roles = SimpleNamespace(dispatchers=[], gateways=[], ingests=[])
    scene = SimpleNamespace(deployment=roles, cluster=SimpleNamespace(nodes=()), interposers={"any": None})
    assert {kind.name for kind in Faults(cast("Scene", scene), 7).kinds} == set(ASSUMED)


async def test_the_rightmost_state_that_holds_counts() -> None:
    loads = [SimpleNamespace(does="waits"), SimpleNamespace(does="publishes")]
    gone = SimpleNamespace(admin="http://127.0.0.1:1")
    roles: list[SimpleNamespace] = []
    around = Surroundings(cast("list", roles), cast("list", loads), lambda: [])  # type: ignore[type-arg]
    assert await around.state(another=False) == STEADY
    loads[0].does = "bursts"
    assert await around.state(another=False) == BURST
    loads[1].does = "recreates"
    assert await around.state(another=False) == RECREATED
    roles.append(gone)
    assert await around.state(another=False) == NOT_READY
    assert await around.state(another=True) == ANOTHER
    assert STATES.index(STEADY) == 0 and BATCHES.every_s < math.inf
