"""Many small topics through Kafka: the load of bench/small.py on an ingest, a dispatcher and a gateway of their own.

    python -m bench.small_roles                     the highest rate with p95 < 50 ms
    python -m bench.small_roles --rate 3000         one rate: delivered a second, latency, CPU of each process
    python -m bench.small_roles --beside ../before  the roles of another checkout take turns

One Kafka node, the three roles and the load share the cores. What is sent and checked is as in bench/small.py: batches
of 100 over HTTP, each message reaches ten sockets, once and in order, or the bench ends. Deliveries a CPU second are
those of the three roles together; Kafka's CPU is given apart.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.cpu import cpu_s
from bench.deployment import QUIET
from bench.small import LIMIT_MS, STEP, Load, Publisher, Turn
from tests.e2e.harness import Deployment, Stage, token
from tests.kafka.cluster import KafkaCluster

FIRST, SHARDS = 2_000.0, 8
SETTINGS = {**QUIET, "topics.auto_create": "true", "limits.publish_per_topic_per_s": 1_000_000}


class Roles:
    """The three processes of one checkout, as the one server that a `Turn` loads."""

    def __init__(self, label: str, tree: Path | None, kafka: KafkaCluster, stage: Stage) -> None:
        self.label = label
        self.kafka = kafka
        self.deployment = Deployment(stage, kafka.bootstrap, f"small-{time.time_ns()}", settings=SETTINGS)
        if tree is not None:
            for role in self.deployment.roles:
                role.before = ["/usr/bin/env", f"PYTHONPATH={tree}"]
        self.port = self.deployment.gateways[0].port
        self.bearer = token("bench", service=True, admin=True)

    def cpu_s(self) -> float:
        """Returns the CPU seconds of the roles so far."""
        return sum(self.each()[:3])

    def each(self) -> list[float]:
        """Returns the CPU seconds of ingest, dispatcher, gateway and broker."""
        ours = self.deployment
        processes = [ours.ingests[0].pid, ours.dispatchers[0].pid, ours.gateways[0].pid, self.kafka.nodes[0].pid]
        return [cpu_s(pid) for pid in processes]

    def stop(self) -> None:
        """Kills the roles."""
        for role in self.deployment.roles:
            role.kill9()


async def measured(turn: Turn, roles: Roles, rate: float, seconds: float) -> Load:
    """Loads one rate and prints what was found."""
    before = roles.each()
    load = await turn.load(rate, seconds)
    print(said(roles.label, load, [now - then for now, then in zip(roles.each(), before, strict=True)]), flush=True)
    return load


def said(label: str, load: Load, spent: Sequence[float]) -> str:
    """Returns a line; CPU in us a message."""
    messages = max(load.delivered, 1) / 10
    ingest, dispatcher, gateway, broker = (seconds / messages * 1e6 for seconds in spent)
    return (
        f"{label:8} {load.rate:6.0f} msg/s, {load.per_s / 1000:5.1f} thousand deliveries/s; p50 {load.p50_ms:5.1f} ms,"
        f" p95 {load.p95_ms:5.1f} ms; {1000 / load.cpu_us:.1f} thousand deliveries a CPU second; us of CPU a message:"
        f" ingest {ingest:.0f}, dispatcher {dispatcher:.0f}, gateway {gateway:.0f}, Kafka {broker:.0f}"
    )


async def highest(turn: Turn, roles: Roles, seconds: float) -> None:
    """Raises the rate by steps until p95 is twice above the limit."""
    rate, best = FIRST, 0.0
    while True:
        load = await measured(turn, roles, rate, seconds)
        if load.p95_ms > LIMIT_MS:
            load = await measured(turn, roles, rate, seconds)  # the machine may have been busy
        if load.p95_ms > LIMIT_MS:
            break
        best, rate = rate, rate * STEP
    print(f"{roles.label:8} highest rate with p95 < {LIMIT_MS:g} ms: {best:.0f} msg/s", flush=True)


async def one_round(roles: Roles, rate: float | None, seconds: float) -> None:
    """Starts the roles and loads them: at one rate, or up to the highest."""
    try:
        await roles.deployment.start(SHARDS)
        turn = Turn(roles, Publisher(roles.deployment.ingests[0].port, bearer=roles.bearer), roles.bearer)
        await turn.prepare()
        await turn.load(FIRST / 2, 3.0)  # warm: the first seconds of a fresh topic are many times slower
        if rate:
            await measured(turn, roles, rate, seconds)
        else:
            await highest(turn, roles, seconds)
        for sender in turn.senders:
            sender.cancel()
    finally:
        roles.stop()


async def run(arguments: argparse.Namespace) -> None:
    """Runs the rounds; one Kafka serves all of them."""
    trees = [("now", None)] + ([("before", arguments.beside.resolve())] if arguments.beside else [])
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, KafkaCluster() as kafka:
        for number in range(arguments.rounds):
            for label, tree in trees:
                home = Path(folder) / f"{label}-{number}"
                home.mkdir()
                stage = Stage(home)
                try:
                    await one_round(Roles(label, tree, kafka, stage), arguments.rate, arguments.seconds)
                finally:
                    stage.close()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="messages a second; each is ten deliveries")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beside", type=Path, help="another checkout, whose roles take turns")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
