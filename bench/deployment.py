"""A deployment on real Kafka for one bench: started in a folder of its own, and gone with the bench."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Role, Stage, token
from tests.kafka.provide import provide

QUIET: Final = {"heartbeat.interval": 3_600}  # no ping comes between the messages of a crowd
ANY_RATE: Final = {"rate_limit": {"per_s": 100_000, "burst": 100_000}}

Measure = Callable[[Deployment, argparse.Namespace], Coroutine[Any, Any, bool]]


def exit_status(
    measure: Measure, options: argparse.Namespace, *,
    dispatchers: int = 1, gateways: int = 2, settings: Mapping[str, object] = QUIET,
) -> int:  # fmt: skip
    """Describes a deployment of one ingest, runs the bench, which starts it, and stops it; 1 where it returns False."""
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, provide() as kafka:
        stage = Stage(Path(folder))
        try:
            prefix = f"bench-{time.time_ns()}"
            deployment = Deployment(
                stage, kafka.bootstrap, prefix, dispatchers=dispatchers, gateways=gateways, settings=settings
            )
            return 0 if asyncio.run(measure(deployment, options)) else 1
        finally:
            stage.close()


def administrator(deployment: Deployment) -> Publisher:
    """Returns somebody who may do everything, and whom no rate of a user holds back."""
    return Publisher(deployment.ingests[0].url, token("root", service=True, admin=True))


def gateway_addresses(deployment: Deployment) -> list[str]:
    """Returns `host:port` of each gateway."""
    return [f"127.0.0.1:{gateway.port}" for gateway in deployment.gateways]


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Adds what a crowd of clients is made of."""
    parser.add_argument("--processes", type=int, default=2, help="of clients")
    parser.add_argument("--nice", type=int, default=19, help="of the clients of the large topic")


def memory_mb(role: Role, field: str = "VmRSS") -> float:
    """Returns the resident megabytes of a process; with VmHWM the most that it ever had."""
    status = Path(f"/proc/{role.pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def memory_of(roles: Iterable[Role]) -> str:
    """Returns what each process has resident, as text."""
    return ", ".join(f"{role.name} {memory_mb(role):.0f} MB" for role in roles)
