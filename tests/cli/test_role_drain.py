"""The drain of every role in its order: streams and requests first, then the log, and the spans last."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from dispatcher.dispatcher_options import AssignmentOptions
from headgate.cli import roles, traces
from headgate.cli.roles import Parts
from headgate.cli.traces import Traces
from headgate.runtime import settings
from headgate.runtime.limit_settings import DrainSettings
from headgate.runtime.metrics import Metrics
from headgate.runtime.process import Process
from headgate.runtime.settings import Role, Settings
from headgate.runtime.system import SystemClock

STEPS: dict[Role, list[str]] = {
    "ingest": ["publishes in flight", "http", "log", "spans"],
    "dispatcher": ["shards", "log", "spans"],
    "gateway": ["sessions", "http", "spans"],
    "dev": ["sessions", "publishes in flight", "http", "shards", "log", "spans"],
}
MAINS: dict[Role, Callable[[Settings], Coroutine[Any, Any, int]]] = {
    "ingest": roles._ingest,
    "dispatcher": roles._dispatcher,
    "gateway": roles._gateway,
    "dev": roles._dev,
}
EXCLUDED = {
    "ingest": {"some_owners", "some_circuits"},
    "gateway": {"some_owners"},
    "dispatcher": {"index"},
    "dev": {"some_owners", "some_circuits", "index"},
}  # what the chart's probes leave out


class Collector:
    """Spans whose collector answers when it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def close(self) -> None:
        self.answers.wait(30)


def given(role: Role, folder: Path) -> Settings:
    env = {
        "HEADGATE_AUTH__SECRET": "a secret of at least thirty-two bytes",
        "HEADGATE_TRACING__ENDPOINT": "http://127.0.0.1:1/v1/traces",
        "HEADGATE_LOG__URL": f"sqlite:///{folder}/log.db" if role == "dev" else "kafka://127.0.0.1:1",
        "HEADGATE_DISPATCHER__DATA": str(folder),
        **{f"HEADGATE_{name}__PORT": "0" for name in ("INGEST", "DISPATCHER", "GATEWAY", "DEV")},
    }
    return settings.resolve(settings.load({}, None, env), role)


@pytest.mark.parametrize("role", STEPS)
async def test_spans_are_sent_after_every_other_step(
    role: Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Process] = []

    async def run(process: Process, *_: object) -> int:
        found.append(process)
        await process._drain()
        return 0

    collector = Collector()
    collector.answers.set()
    monkeypatch.setattr(traces, "tracing_to", lambda *_: collector)
    monkeypatch.setattr(Process, "run", run)
    assert await MAINS[role](given(role, tmp_path)) == 0
    (process,) = found
    assert [name for name, _ in process._steps] == STEPS[role]
    assert process.partial == EXCLUDED[role] and process.partial <= process.checks.keys()


async def test_a_longer_deadline_gives_a_dispatcher_longer_for_its_last_snapshots(tmp_path: Path) -> None:
    longer = settings.load({}, None, {"HEADGATE_DRAIN__DEADLINE_S": "60", "HEADGATE_LOG__URL": "memory:"})
    parts = Parts(settings.resolve(longer, "dev"), "dispatcher", frozenset({"dispatcher"}))
    service = parts.dispatcher(*parts.log(), "memory", None)
    assert service._options.assignment.final_s == 30
    assert AssignmentOptions().final_s == DrainSettings().deadline_s / 2


@pytest.mark.parametrize("answers", [True, False])
def test_a_collector_that_does_not_answer_holds_a_drain_for_five_seconds(
    answers: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    collector = Collector()
    assert traces.FLUSH_S == 5
    monkeypatch.setattr(traces, "tracing_to", lambda *_: collector)
    monkeypatch.setattr(traces, "FLUSH_S", 0.4)
    metrics, clock = Metrics({"gateway"}), SystemClock()
    done: list[str] = []

    async def main() -> None:
        process = Process("gateway", metrics, clock, 20.0)
        made = Traces(given("gateway", tmp_path), "gateway", "n", metrics, clock)

        async def sessions() -> None:
            done.append("sessions")

        process.on_drain("sessions", sessions)
        made.drain_last(process)
        if answers:
            collector.answers.set()
        await process._drain()

    began = time.monotonic()
    asyncio.run(main())
    took = time.monotonic() - began
    assert done == ["sessions"]
    assert took < 0.3 if answers else 0.4 <= took < 5, "closing the loop waits for no thread of it"
    collector.answers.set()
