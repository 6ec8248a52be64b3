"""A topic that grows hot and cools down while messages are published. `python -m bench.heat [--many 12000]`

Few live subscribers, then (`--middle`) so many that the topic is paced, then many, then few again, on two gateways. The
topic must switch to `inbox` and back exactly once each, and every socket must get every message once, in order. The
first figures, of few subscribers, are the baseline. Open loop: latency counts from when a message was due.
Exit status 1: other switches, a message that is missing, repeated or out of order.
"""

import argparse
import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from bench.crowd import Crowd
from bench.deployment import ANY_RATE, add_client_options, administrator, exit_status, gateway_addresses
from bench.stream_of_messages import Messages
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment

TOPIC: Final = "heat"
SWITCH_S: Final = 60.0


class ModeWatch:
    """Asks for the topic's mode ten times a second and keeps what changed."""

    def __init__(self, admin: Publisher) -> None:
        self.modes: list[str] = []
        self._admin = admin

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            answer = await self._admin.call("GET", f"/api/v1/topics/{TOPIC}")
            if answer.status == 200 and [answer.body["mode"]] != self.modes[-1:]:
                self.modes.append(answer.body["mode"])
            await asyncio.sleep(0.1)

    async def becomes(self, mode: str) -> float:
        """Waits for a mode; returns the seconds."""
        begun = time.monotonic()
        while self.modes[-1:] != [mode]:
            if time.monotonic() - begun > SWITCH_S:
                raise SystemExit(f"not {mode} after {SWITCH_S:g} s: {self.modes}")
            await asyncio.sleep(0.05)
        return time.monotonic() - begun


async def hold(crowd: Crowd, what: str, seconds: float) -> None:
    """Prints the latencies of a while in which nobody comes or goes."""
    await crowd.report(TOPIC)
    await asyncio.sleep(seconds)
    print(f"{what}: {await crowd.report(TOPIC)}", flush=True)


async def measure(deployment: Deployment, options: argparse.Namespace) -> bool:
    """Prints the figures; says whether there were two switches."""
    await deployment.start(4)
    gateways = gateway_addresses(deployment)
    users = [f"follower-{n}" for n in range(options.many)]
    few, middle = options.few, options.middle
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(administrator(deployment))
        enter = options.enter
        bounds = {"paced_above": enter // 10, "hot_enter": enter, "hot_exit": enter * 8 // 10}
        assert (await admin.create(TOPIC, settings=ANY_RATE | bounds)).status == 201
        crowd = await stack.enter_async_context(Crowd(gateways, options.processes, nice=options.nice))
        await crowd.open(TOPIC, users[:few])
        watch = ModeWatch(admin)
        watching = asyncio.create_task(watch.run())
        async with Messages(admin, [TOPIC], options.per_s) as messages:
            await asyncio.sleep(2)
            await hold(crowd, f"{few} subscribers", options.seconds)
            if middle:
                await crowd.open(TOPIC, users[few:middle])
                await hold(crowd, f"{middle} subscribers", options.seconds)
            took = await crowd.open(TOPIC, users[max(few, middle) :])
            print(f"up to {options.many} subscribers in {took:.1f} s: {await crowd.report(TOPIC)}", flush=True)
            print(f"inbox {await watch.becomes('inbox'):.1f} s later", flush=True)
            await hold(crowd, f"{options.many} subscribers", options.seconds)
            await crowd.close(TOPIC, options.many - few)
            print(f"direct {await watch.becomes('direct'):.1f} s after all but {few} had left", flush=True)
            await hold(crowd, f"{few} subscribers again", options.seconds)
        await crowd.report(TOPIC, await messages.last_seq(TOPIC))
        print(f"publishes: {messages}", flush=True)
        watching.cancel()
        counted = await _switches(deployment)
        print(f"modes: {' '.join(watch.modes)}; switches counted by the owners: {counted:g}", flush=True)
        return watch.modes == ["direct", "inbox", "direct"] and counted == 2


async def _switches(deployment: Deployment) -> float:
    metrics = [await dispatcher.metrics() for dispatcher in deployment.dispatchers]
    return sum(value for found in metrics for name, value in found.items() if 'event="mode_switched"' in name)


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.heat", description=__doc__)
    parser.add_argument("--few", type=int, default=500)
    parser.add_argument("--middle", type=int, default=5_000, help="0: none")
    parser.add_argument("--many", type=int, default=12_000)
    parser.add_argument("--enter", type=int, default=10_000, help="the topic's hot_enter; the others in proportion")
    parser.add_argument("--per-s", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=15, help="of each figure")
    add_client_options(parser)
    return exit_status(measure, parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
