"""One topic with very many members, some of them live, beside plain topics. `python -m bench.hot [--members 100000]`

The members are written into the log as the records of their joins, at once (as `bench.member_requests` does: over HTTP
it takes minutes). Then `--live` of them follow on two gateways, and plain topics are followed too. Messages to the
plain topics alone are the baseline, before and after a minute in which the hot topic has messages as well. Every
socket must get every message once, in order. Latency counts from when a message was due. Last comes the control: as
many deliveries to as many sockets as those of the hot topic, by floor programs beside the gateways (`bench.floor`).
Exit status 1: a message is missing or repeated, publishes take 100 ms at 95 %, the plain topics take more than 1.5
times as long at 95 % as beside the control, or a message appends more inbox records than there are shards.
"""

import argparse
import asyncio
from contextlib import AsyncExitStack
from typing import Final

from bench.cpu import cpu_s
from bench.crowd import Crowd, Report
from bench.deployment import ANY_RATE, add_client_options, administrator, exit_status, gateway_addresses, memory_of
from bench.hot_control import TOPIC as CONTROL
from bench.hot_control import Floors
from bench.member_requests import SHARDS, TOPIC, filled
from bench.stream_of_messages import Messages
from headgate.core.wire.inbox_record import HeadsRecord, decode_inbox
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment
from tests.e2e.kafka_client import ends, read_all

PUBLISH_MS: Final = 100.0
RATIO: Final = 1.5
FLOOR_MS: Final = 5  # below it a ratio says nothing


class Bench:
    """A deployment with one hot topic and some plain ones."""

    def __init__(
        self, deployment: Deployment, admin: Publisher, crowds: tuple[Crowd, Crowd], options: argparse.Namespace
    ) -> None:
        """The followers of the hot topic and of the plain ones are in different processes."""
        self.deployment = deployment
        self.admin = admin
        self.crowd, self.listeners = crowds
        self.options = options
        self.plain = [f"plain-{n}" for n in range(options.plain)]

    async def prepare(self) -> None:
        """Fills the topic; connects everybody."""
        options = self.options
        took = await filled(self.deployment, self.admin, options.members, ANY_RATE)
        print(f"{options.members} members {took:.1f} s after they were written")
        await asyncio.sleep(options.settle)
        for topic in self.plain:
            assert (await self.admin.create(topic, settings=ANY_RATE)).status == 201
            await self.listeners.open(topic, [f"{topic}-{n}" for n in range(options.listeners)])
        took = await self.crowd.open(TOPIC, [f"user-{n:07}" for n in range(options.live)])
        print(f"{options.live} of them follow after {took:.1f} s; mode {await self.mode()}", flush=True)

    async def mode(self) -> str:
        return str((await self.admin.call("GET", f"/api/v1/topics/{TOPIC}")).body["mode"])

    async def plain_alone(self, what: str) -> Report:
        """Returns the latencies of the plain topics while nothing else is published."""
        async with Messages(self.admin, self.plain, self.options.plain_per_s) as messages:
            await asyncio.sleep(self.options.seconds / 2)
        return await self.plain_report(messages, what)

    async def plain_report(self, messages: Messages, what: str) -> Report:
        total = Report([])
        for topic in self.plain:
            total += await self.listeners.report(topic, await messages.last_seq(topic))
        print(f"plain topics {what}: {total}", flush=True)
        return total

    async def run(self) -> bool:
        """Prints the figures; says whether the aims are met."""
        await self.plain_alone("to warm up")
        before = await self.plain_alone("without the hot one, before")
        await self.crowd.report(TOPIC)
        cpu_begun = self.gateways_cpu_s()
        begun = await ends(self.deployment.bootstrap, f"{self.deployment.prefix}.inbox")
        plain = Messages(self.admin, self.plain, self.options.plain_per_s)
        async with plain, Messages(self.admin, [TOPIC], self.options.per_s) as hot:
            await asyncio.sleep(self.options.seconds)
        beside = await self.plain_report(plain, "beside the hot one")
        print(f"hot topic, mode {await self.mode()}: {await self.crowd.report(TOPIC, await hot.last_seq(TOPIC))}")
        print(f"{self.gateways_cpu_s() - cpu_begun:.1f} CPU s in the gateways; publishes to it: {hot}", flush=True)
        await asyncio.sleep(2)
        each = await self.pointers(begun, len(hot.took_ms))
        after = await self.plain_alone("without the hot one, after")
        self.memory()
        control = await self.beside_floors()
        alone, busy = ((before + after).quantile(0.95), control.quantile(0.95))
        print(f"p95 of plain topics: {beside.quantile(0.95) / max(alone, FLOOR_MS):.2f} times that without the hot one")
        ratio = beside.quantile(0.95) / max(busy, FLOOR_MS)
        print(f"p95 of plain topics: {ratio:.2f} times that beside the control")
        p95 = sorted(hot.took_ms)[int(len(hot.took_ms) * 0.95)]
        return ratio <= RATIO and p95 < PUBLISH_MS and each <= SHARDS

    async def beside_floors(self) -> Report:
        """Returns the latencies of the plain topics while floor programs deliver what the gateways did before."""
        options = self.options
        await self.crowd.close(TOPIC, options.live)
        async with Floors(len(self.deployment.gateways), options.processes, options.nice) as floors:
            await floors.crowd.open(CONTROL, [f"user-{n:07}" for n in range(options.live)])
            begun = floors.cpu_s()
            async with Messages(self.admin, self.plain, options.plain_per_s) as plain:
                await floors.publish(options.per_s, options.seconds)
            found = await floors.crowd.report(CONTROL, floors.sent)
            print(f"control, {floors.cpu_s() - begun:.1f} CPU s in the floors: {found}", flush=True)
        return await self.plain_report(plain, "beside the control")

    async def pointers(self, begun: dict[int, int], messages: int) -> float:
        """Prints what the messages appended; returns the records of a message."""
        log = await read_all(self.deployment.bootstrap, f"{self.deployment.prefix}.inbox")
        values = [record.value for record in log if record.offset >= begun[record.partition]]
        named = [value for value in values if _names(value)]
        each, size = len(named) / messages, sum(map(len, named)) / max(len(named), 1)
        print(
            f"{messages} messages to {self.options.members} members appended {len(named)} pointer records, "
            f"{each:.2f} a message, {size:.0f} bytes each; {len(values)} records in all",
            flush=True,
        )
        return each

    def gateways_cpu_s(self) -> float:
        return sum(cpu_s(gateway.pid) for gateway in self.deployment.gateways)

    def memory(self) -> None:
        """Prints what each role takes."""
        print(f"resident: {memory_of(self.deployment.roles)}", flush=True)


def _names(value: bytes | None) -> bool:
    record = decode_inbox(value)
    return isinstance(record, HeadsRecord) and any(head.topic_id == TOPIC for head in record.heads)


async def measure(deployment: Deployment, options: argparse.Namespace) -> bool:
    """Starts everything and runs."""
    await deployment.start(SHARDS)
    gateways = gateway_addresses(deployment)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(administrator(deployment))
        crowd = await stack.enter_async_context(Crowd(gateways, options.processes, nice=options.nice))
        listeners = await stack.enter_async_context(Crowd(gateways, 1, first=options.processes))
        bench = Bench(deployment, admin, (crowd, listeners), options)
        await bench.prepare()
        return await bench.run()


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.hot", description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--live", type=int, default=5_000)
    parser.add_argument("--per-s", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--plain", type=int, default=10, help="topics")
    parser.add_argument("--listeners", type=int, default=10, help="of each of them")
    parser.add_argument("--plain-per-s", type=float, default=50, help="messages to all of them")
    parser.add_argument("--settle", type=float, default=10, help="seconds behind the fill")
    add_client_options(parser)
    return exit_status(measure, parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
