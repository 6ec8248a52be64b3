"""A process that hardly gets to run for 10 s: LOW messages are shed and told so, NORMAL ones arrive, and it heals."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack

from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Role, Stage, until

LOADED_S = 10.0
STOPPED_S, RUNS_S = 0.4, 0.1  # of each half second: the loop is late by 0.4 s, which is a load above 1
BEGIN_S = 1.5  # load is an average over half a second
BACK_S = 2.0
SHED = 'headgate_publishes_total{outcome="shed",profile="ephemeral"}'
TOPIC = "ticks"


class Offered:
    """What was published, and what became of it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._numbers = 0
        self.shed: list[int] = []
        self.taken: list[int] = []
        self.normal: list[int] = []

    async def low(self) -> bool:
        """Publishes a LOW message; returns whether it was taken."""
        number = self._number()
        body = {"payload": number, "priority": "LOW"}
        answer = await self._publisher.call("POST", f"/api/v1/topics/{TOPIC}/publish", body)
        assert answer.status == 200, answer
        found = (answer.body["delivered_to"], answer.body["dropped"])
        assert found in [(0, "backpressure"), (1, False)], answer
        (self.taken if found[0] else self.shed).append(number)
        return bool(found[0])

    async def plain(self) -> None:
        """Publishes a NORMAL message, which is never refused."""
        number = self._number()
        answer = await self._publisher.publish(TOPIC, number, wait="delivered", timeout_ms=10_000)
        assert (answer.status, answer.body["dropped"], answer.body["delivered_to_basis"]) == (200, False, "delivered")
        assert answer.body["delivered_to"] == 1, answer
        self.normal.append(number)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


async def hold_up(role: Role, seconds: float) -> None:
    """Lets a process run for a fifth of the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        role.signal(signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)
        role.signal(signal.SIGCONT)
        await asyncio.sleep(RUNS_S)


async def test_low_is_shed_while_the_load_is_above_08_and_taken_again_within_2_s(
    stage: Stage, figures: Figures
) -> None:
    dev = stage.dev(auth__mode="open", topics__profile="ephemeral")
    dev.start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(dev.url))
        assert (await publisher.create(TOPIC)).body["settings"]["profile"] == "ephemeral"
        listener = await stack.enter_async_context(Subscriber("s", [dev.url], [TOPIC]))
        await until("the subscription is granted", lambda: listener.connected, 30)
        offered = Offered(publisher)
        await until("LOW is taken at rest", offered.low, 30)
        await offered.plain()

        begun = time.monotonic()
        at_rest = len(offered.shed)
        holding = asyncio.create_task(hold_up(dev, LOADED_S))
        await asyncio.sleep(BEGIN_S)
        before = len(offered.taken)
        while not holding.done():
            await offered.plain()
            await offered.low()
            await asyncio.sleep(0.05)
        loaded_s = time.monotonic() - begun
        assert len(offered.taken) == before, "every LOW message is shed"
        assert len(offered.shed) > at_rest and len(offered.normal) > 1
        load = (await dev.metrics())["headgate_load{}"]
        back_s = await until("LOW is taken again", offered.low, BACK_S)
        await offered.plain()

        expected = sorted(offered.normal + offered.taken)
        await until("all that was taken arrives", lambda: listener.count == len(expected), 10)
        assert sorted(int(seen.payload) for seen in listener.messages[TOPIC]) == expected
        assert (await dev.metrics())[SHED] == len(offered.shed)
        figures.say(
            f"held up for {loaded_s:.1f} s (load {load:.2f} at its end): {len(offered.normal)} NORMAL delivered, "
            f"{len(offered.shed) - at_rest} LOW shed; LOW taken again after {back_s:.2f} s"
        )
