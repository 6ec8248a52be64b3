"""What a game day is played on: roles, a canary and traffic on one Kafka, watched by a real Prometheus."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import yaml

from helm.observability.files import RULES
from tests.deploy.scraping import Asking, served
from tests.deploy.traffic import Traffic
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Role, Stage, token, until
from tests.e2e.http import NoAnswer
from tests.gameday.flood import OWNER, Flood, SlowClient
from tests.gameday.reading import keep_read
from tests.gameday.rush import Crowd, Guests, Rush
from tests.gameday.shorter import LIMITS, shorter_rules
from tests.gameday.timeline import Timeline
from tests.kafka.cluster import KafkaCluster

SHARDS: Final = 8
DISK_MB: Final = 512  # the index of all floods fits; with 160 it was full in the last fault
SETTINGS: Final = {"limits.slow_messages": 200, "limits.outbound_bytes": 65_536}  # a client is slow within seconds
LOST_S: Final = 60.0  # canary.lost_s, a time as those of the rules
POLL_S: Final = 0.25
READ_S: Final = 0.1
QUIET_S: Final = 120.0


class Fleet:
    """`factor` is that of the rules. `kafka` can be stopped; without it another one is used, by `bootstrap`."""

    def __init__(
        self, folder: Path, bootstrap: str, prefix: str, factor: float, *,
        dispatchers: int = 2, gateways: int = 3, kafka: KafkaCluster | None = None,
    ) -> None:  # fmt: skip
        self.stage = Stage(folder)
        self.factor = factor
        self.kafka = kafka
        self.deployment = Deployment(
            self.stage, bootstrap, prefix, dispatchers=dispatchers, gateways=gateways, settings=SETTINGS
        )
        self.disk: Path | None = None  # a small file system under the index of the first dispatcher
        self.work: asyncio.Task[None] | None = None  # of a fault that goes on
        self.timeline = Timeline(time.monotonic())
        (self._ingest,) = self.deployment.ingests
        gateway = self.deployment.gateways[0].url
        self.traffic = Traffic(self._ingest.url, gateway, lambda sub: token(sub, service=True), topics=4, listeners=3)
        self.flood = Flood(self._ingest.url)
        self.slow = SlowClient(gateway)
        self.rush = Rush(self._ingest.url)
        self.crowd = Crowd(self._ingest.url)
        self.guests = Guests(gateway)
        self._canary = self._canary_role()

    def _canary_role(self) -> Role:
        urls = ("--url", self._ingest.url, "--stream-url", self.deployment.gateways[-1].url)
        settings = {
            "auth.secret": self.deployment.common["auth.secret"],
            "admin.host": "127.0.0.1",
            "admin.port": self.stage.ports(1)[0],
            "canary.every_s": 0.2,
            "canary.lost_s": max(LOST_S * self.factor, 2.0),
        }
        return self.stage.role("canary", ["canary", *urls], settings)

    @asynccontextmanager
    async def running(self, prometheus: Path, exporter: Path | None = None) -> AsyncIterator[Self]:
        """Starts everything; with `exporter` also a small disk and the figures of this machine's disks."""
        async with AsyncExitStack() as stack:
            stack.callback(self.stage.close)
            machine = None
            if exporter is not None:
                self.disk = stack.enter_context(_small_disk(self.deployment.index(self.deployment.dispatchers[0])))
                machine = stack.enter_context(_exporting(exporter, self.stage.ports(1)[0], self.stage.folder))
            await self.deployment.start(SHARDS)
            self._canary.start()
            await self._canary.ready()
            await stack.enter_async_context(self.traffic)
            await stack.enter_async_context(self.flood)
            ask = await stack.enter_async_context(
                served(
                    prometheus, self.stage.folder, self._targets(), self._rules(), self.stage.ports(1)[0],
                    machine=machine,
                )
            )  # fmt: skip
            watching = asyncio.create_task(self._watch(ask))
            stack.callback(watching.cancel)
            reading = asyncio.create_task(keep_read(self._ingest.url, ("publisher", OWNER)))
            stack.callback(reading.cancel)
            await until("every process is scraped", lambda: self._scraped(ask), QUIET_S)
            yield self
            for task in (watching, reading):
                if task.done():
                    task.result()

    async def settled(self) -> None:
        """Waits until all processes are ready and messages flow."""
        for role in [*self.deployment.roles, self._canary]:
            await role.ready(QUIET_S)
        await self.traffic.more(40, QUIET_S)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Callable[[], Coroutine[Any, Any, None]]]:
        """Yields what asks for pages of history until it is cancelled."""
        async with Publisher(self._ingest.url, token("reader", service=True)) as reader:

            async def read() -> None:
                while True:
                    for topic in self.traffic.sent:
                        with contextlib.suppress(NoAnswer, TimeoutError):
                            await reader.call("GET", f"/api/v1/topics/{topic}/messages", limit=10)
                        await asyncio.sleep(READ_S)

            yield read

    def _targets(self) -> dict[str, list[str]]:
        found = {
            "ingest": self.deployment.ingests,
            "dispatcher": self.deployment.dispatchers,
            "gateway": self.deployment.gateways,
            "canary": [self._canary],
        }
        return {role: [process.admin for process in processes] for role, processes in found.items()}

    def _rules(self) -> Path:
        rules = self.stage.folder / "rules.yml"
        rules.write_text(
            json.dumps(shorter_rules(yaml.safe_load(RULES.read_text("utf-8")), self.factor, LIMITS)), "utf-8"
        )
        return rules

    async def _scraped(self, ask: Asking) -> bool:
        return len(await ask('up{job="headgate"} == 1')) == len(self.deployment.roles) + 1

    async def _watch(self, ask: Asking) -> None:
        while True:
            self.timeline.note(time.monotonic(), await ask.alerts())
            await asyncio.sleep(POLL_S)


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A file system of DISK_MB at `folder`, in memory. Raises CalledProcessError where mounting is not permitted."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def _exporting(exporter: Path, port: int, folder: Path) -> Iterator[str]:
    """A node exporter that tells of file systems alone; yields its URL."""
    command = [
        str(exporter), "--collector.disable-defaults", "--collector.filesystem",
        "--collector.filesystem.mount-points-exclude=^$", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "exporter.err").open("wb") as err:
        process = subprocess.Popen(command, stdout=err, stderr=err, stdin=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
