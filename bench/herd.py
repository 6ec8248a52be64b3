"""All members of an inbox topic come back in one minute. `python -m bench.herd [--members 10500] [--within 60]`

The members are written into the log, the topic becomes an inbox, and messages are published while all are away. Then
every member comes back, at a random moment `--within` so many seconds or (0) all in the same moment, each on a
connection of its own, and polls what it missed (`bench.returning_members`). It is held back by a rate of reads that is
low enough to be felt (`--reads-per-min`; the default of an installation is 600). A plain topic goes on meanwhile
through the same ingest, and its latency is measured without the herd and beside it.
Exit status 1: a member lacks a message, has one twice or out of order, got more answers than the rate allows, or was
refused without a Retry-After.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from bench.cpu import cpu_s
from bench.crowd import Crowd, Report, quantile_of
from bench.deployment import (
    ANY_RATE,
    QUIET,
    add_client_options,
    administrator,
    exit_status,
    gateway_addresses,
    memory_mb,
    memory_of,
)
from bench.member_requests import SHARDS, TOPIC, filled
from bench.returning_members import Herd, Polls
from bench.stream_of_messages import Messages
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, environment, token, until

PLAIN: Final = "plain"
HOT_ENTER: Final = 10_000
PROBES: Final = 20  # users whose inbox is looked at before the herd comes: of all shards, as good as certain
SWITCH_S: Final = 60.0
READY_S: Final = 120.0  # for a process of the herd to make its tokens
END_S: Final = 30.0
FIRST_S: Final = 60.0


class HerdBench:
    """A deployment with a topic whose members are away, and a plain topic that is followed."""

    def __init__(self, deployment: Deployment, admin: Publisher, listeners: Crowd, options: argparse.Namespace) -> None:
        self.deployment = deployment
        self.admin = admin
        self.listeners = listeners
        self.options = options
        self.users = [f"user-{n:07}" for n in range(options.members)]

    async def prepare(self) -> None:
        """Fills the topic, waits until it is an inbox, publishes what the members miss; the plain topic is followed."""
        options, enter = self.options, min(HOT_ENTER, self.options.members)
        heat: dict[str, int] = {"hot_enter": enter, "hot_exit": enter * 4 // 5} if enter < HOT_ENTER else {}
        took = await filled(self.deployment, self.admin, options.members, {**ANY_RATE, **heat})
        print(f"{options.members} members {took:.1f} s after they were written", flush=True)
        switched = await until("the topic is an inbox", self._is_inbox, SWITCH_S)
        for n in range(1, options.messages + 1):
            answer = await self.admin.publish(TOPIC, {"n": n}, wait="sequenced")
            assert answer.status == 200 and answer.body["seq"] == n, answer
        took = await until("the inboxes know of all messages", self._are_known, SWITCH_S, 0.2)
        print(f"an inbox {switched:.1f} s later; {options.messages} messages published, known {took:.1f} s later")
        assert (await self.admin.create(PLAIN, settings=ANY_RATE)).status == 201
        await self.listeners.open(PLAIN, [f"listener-{n}" for n in range(options.listeners)])

    async def run(self) -> bool:
        """Prints the figures; says whether every member got what it missed as promised."""
        await self._alone("to warm up")
        alone = await self._alone("without the herd")
        print(f"resident: {memory_of(self.deployment.roles)}; load {os.getloadavg()[0]:.1f}", flush=True)
        polls, beside = await self._with_herd()
        most = ", ".join(f"{role.name} {memory_mb(role, 'VmHWM'):.0f} MB" for role in self.deployment.roles)
        print(f"most resident: {most}; load {os.getloadavg()[0]:.1f}")
        p95 = [report.quantile(0.95) for report in (alone, *beside)]
        print(
            f"p95 of the plain topic, ms: {p95[0]} alone, {p95[1]} in the herd's first {FIRST_S:g} s, {p95[2]} in all"
        )
        return self._judged(polls)

    async def _alone(self, what: str) -> Report:
        async with Messages(self.admin, [PLAIN], self.options.plain_per_s) as messages:
            await asyncio.sleep(self.options.seconds)
        return await self._report(messages, what)

    async def _report(self, messages: Messages, what: str) -> Report:
        found = await self.listeners.report(PLAIN, await messages.last_seq(PLAIN))
        print(f"plain topic {what}: {found}; publishes: {messages}", flush=True)
        return found

    async def _with_herd(self) -> tuple[Polls, list[Report]]:
        """Lets all come back, in several processes; returns what they saw, and the latencies of the plain topic."""
        options, roles, url = self.options, self.deployment.roles, self.deployment.ingests[0].url
        shares = [self.users[n :: options.processes] for n in range(options.processes)]
        rest = (options.messages, options.limit, options.reads_per_min, options.deadline, options.within)
        async with AsyncExitStack() as stack:
            coming = [stack.enter_async_context(_Process(Herd(url, TOPIC, share, *rest))) for share in shares]
            processes = await asyncio.gather(*coming)
            before = [cpu_s(role.pid) for role in roles]
            async with Messages(self.admin, [PLAIN], options.plain_per_s, may_be_refused=True) as messages:
                parts = asyncio.gather(*(process.come_back(options.nice) for process in processes))
                await asyncio.wait({parts}, timeout=FIRST_S)
                first = await self.listeners.report(PLAIN)
                polls = sum(await parts, Polls())
        used = ", ".join(f"{role.name} {cpu_s(role.pid) - was:.1f}" for role, was in zip(roles, before, strict=True))
        print(f"plain topic in the first {FIRST_S:g} s of the herd: {first}", flush=True)
        beside = first + await self._report(messages, "beside the herd after that")
        self._print(polls)
        print(f"CPU s: {used}, clients {polls.cpu_s:.1f}")
        return polls, [first, beside]

    def _print(self, polls: Polls) -> None:
        had, pages, other = Counter(polls.had_ms), Counter(polls.page_ms), Counter(polls.other_ms)
        print(
            f"{had.total()} of {self.options.members} members had all {self.options.messages} messages: "
            f"half of them after {quantile_of(had, 0.5) / 1e3:.1f} s, the last after {max(had, default=0) / 1e3:.1f} s"
        )
        for what, times in (("polls", pages), ("other reads", other)):
            quantiles = ", ".join(f"p{q * 100:g} {quantile_of(times, q)} ms" for q in (0.5, 0.95, 0.99))
            print(f"{what}: {times.total()} answered, {quantiles}, most {max(times, default=0)} ms")
        refused = ", ".join(f"{count} {code}" for code, count in sorted(polls.refused.items())) or "nobody"
        print(
            f"refused: {refused}; by the rate again after the wait that was asked for: {polls.too_early}; "
            f"connections lost or not made: {polls.unanswered}"
        )

    def _judged(self, polls: Polls) -> bool:
        for fault in polls.faults:
            print(f"FAILED: {fault}")
        if polls.without_wait:
            print(f"FAILED: {polls.without_wait} refusals without Retry-After")
        good = not polls.faults and not polls.without_wait
        if good:
            print("every member got every message once, in order, within its rate of reads")
        return good

    async def _is_inbox(self) -> bool:
        answer = await self.admin.call("GET", f"/api/v1/topics/{TOPIC}")
        return answer.status == 200 and answer.body["mode"] == "inbox"

    async def _are_known(self) -> bool:
        found = [await self._unread(user) for user in self.users[:PROBES]]
        return all(unread == self.options.messages for unread in found)

    async def _unread(self, user: str) -> Any:
        async with Publisher(self.admin.url, token(user, service=True)) as reader:
            answer = await reader.call("GET", "/api/v1/inbox")
        return answer.body["topics"][0]["unread"] if answer.status == 200 and answer.body["topics"] else None


class _Process:
    """A process with a part of the herd; inside `async with` it has made its tokens and waits."""

    def __init__(self, herd: Herd) -> None:
        self._herd = herd

    async def __aenter__(self) -> Self:
        pipe, command = asyncio.subprocess.PIPE, (sys.executable, "-m", "bench.returning_members")
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment({}))
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(self._herd) + b"\n")
        await asyncio.wait_for(self._process.stdout.readline(), READY_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def come_back(self, nice: int) -> Polls:
        """Lets them come back; returns what they saw."""
        os.setpriority(os.PRIO_PROCESS, self._process.pid, nice)
        out, _ = await asyncio.wait_for(self._process.communicate(b"\n"), self._herd.seconds + END_S)
        if self._process.returncode:
            raise SystemExit(f"a process of the herd ended with {self._process.returncode}")
        return msgspec.json.decode(out, type=Polls)


async def measure(deployment: Deployment, options: argparse.Namespace) -> bool:
    """Starts everything and runs."""
    await deployment.start(SHARDS)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(administrator(deployment))
        listeners = await stack.enter_async_context(Crowd(gateway_addresses(deployment), 1))
        bench = HerdBench(deployment, admin, listeners, options)
        await bench.prepare()
        return await bench.run()


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.herd", description=__doc__)
    parser.add_argument("--members", type=int, default=10_500)
    parser.add_argument("--messages", type=int, default=20, help="that all of them miss")
    parser.add_argument("--limit", type=int, default=5, help="of a page of messages")
    parser.add_argument("--reads-per-min", type=int, default=3, help="of a user, and as many at once")
    parser.add_argument("--within", type=float, default=60, help="seconds for all to come back; 0: one moment")
    parser.add_argument("--deadline", type=float, default=600, help="seconds that the herd may take")
    parser.add_argument("--seconds", type=float, default=10, help="of the figures without the herd")
    parser.add_argument("--listeners", type=int, default=10, help="of the plain topic")
    parser.add_argument("--plain-per-s", type=float, default=50, help="messages to it")
    add_client_options(parser)
    parser.set_defaults(nice=0)
    options = parser.parse_args()
    settings = QUIET | {"limits.reads_per_user_per_min": options.reads_per_min}
    return exit_status(measure, options, settings=settings)


if __name__ == "__main__":
    raise SystemExit(main())
