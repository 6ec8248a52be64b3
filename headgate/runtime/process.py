"""The life of one process: start, signals, drain in order, exit status."""

import asyncio
import contextlib
import gc
import resource
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import structlog
import uvloop

from headgate.runtime.admin import AdminServer, Check
from headgate.runtime.doctor.machine import memory_limit
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Clock

logger = structlog.get_logger("process")

LAG_S: Final = 0.5  # how often the loop's lag is measured
# When the collector looks (`gc.set_threshold`). With Python's own 700, one batch of messages made it look in the middle
# of the batch, keep what was about to go, and look through everything many times a second: 50 ms at a time with 1,000
# sockets. What the server makes is freed without the collector (tests/integration/test_garbage.py).
COLLECT_AFTER: Final = (20_000, 10, 10)
Step = Callable[[], Awaitable[object]]


class _Drained(Exception):
    """All drain steps are done; ends the task group."""


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """What is there now lives as long as the process: no collection looks at it, and they are rare."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Process:
    """Runs tasks until SIGTERM or SIGINT, then the drain steps in order, all within `deadline_s` seconds."""

    def __init__(self, role: str, metrics: Metrics, clock: Clock, deadline_s: float) -> None:
        self.role = role
        self.checks: dict[str, Check] = {
            "draining": lambda: "the process is stopping" if self.stopping.is_set() else None
        }
        self.partial: set[str] = set()  # names of the checks about a part of the work: the rest is served
        self.stopping = asyncio.Event()
        self._steps: list[tuple[str, Step]] = []
        self._first: list[Callable[[], None]] = []
        self._tasks: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = []
        self._metrics = metrics
        self._clock = clock
        self._deadline_s = deadline_s
        self._lag = 0.0
        self._next_measure: asyncio.TimerHandle | None = None
        metrics.watch("loop_lag_seconds", lambda: self._lag)
        metrics.watch("ready", lambda: float(self._serves()))
        metrics.watch("memory_limit_bytes", lambda: float(memory_limit() or 0))

    def task(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Adds a task of the process; when it fails, the process ends with exit status 1."""
        self._tasks.append((name, run))

    def on_drain(self, name: str, step: Step) -> None:
        """Adds a step that SIGTERM runs, after those added before it."""
        self._steps.append((name, step))

    def at_drain(self, call: Callable[[], None]) -> None:
        """Adds a call that SIGTERM makes at once, before the first step."""
        self._first.append(call)

    def check(self, name: str, check: Check, *, partial: bool = False) -> None:
        """Adds a readiness check; of several with one name the first that fails is said.

        A `partial` one is about some shards or some work: `/readyz` says it, and the process serves the rest.
        """
        before = self.checks.get(name)
        self.checks[name] = check if before is None else lambda: before() or check()
        if partial:
            self.partial.add(name)

    def _serves(self) -> bool:
        return all(check() is None for name, check in self.checks.items() if name not in self.partial)

    async def run(
        self,
        admin_host: str,
        admin_port: int,
        hosts: Hosts | None = None,
        listening: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Runs until a signal and returns 0. A task's failure is raised; OSError where the admin port is taken.

        `listening` is called with the admin port.
        """
        admin = AdminServer(admin_host, admin_port, self._metrics, self.checks, hosts)
        listening(admin.port)
        loop = asyncio.get_running_loop()
        try:
            with signals(loop, self.stopping.set):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(admin.serve(), name="admin")
                    for name, run in self._tasks:
                        tasks.create_task(run(), name=name)
                    self._measure(loop, loop.time())
                    with _rare_collections():
                        await self.stopping.wait()
                        await self._drain()
                    raise _Drained
        except* _Drained:
            pass
        finally:
            self._end(admin)
        return 0

    def _end(self, admin: AdminServer) -> None:
        admin.close()  # its task may have been cancelled before it began
        if self._next_measure is not None:
            self._next_measure.cancel()

    async def _drain(self) -> None:
        started = self._clock.now()
        logger.info("draining", deadline_s=self._deadline_s)
        for call in self._first:
            call()
        try:
            async with asyncio.timeout(self._deadline_s):
                for name, step in self._steps:
                    await self._step(name, step)
                    logger.info("drained", step=name, seconds=round(self._clock.now() - started, 2))
        except TimeoutError:
            logger.warning("drain deadline passed; stopping as things stand", deadline_s=self._deadline_s)

    async def _step(self, name: str, step: Step) -> None:
        """Runs one step; its failure must not stop the other steps."""
        try:
            await step()
        except Exception:
            logger.exception("a drain step failed", step=name)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._lag = max(0.0, loop.time() - due)
        self._next_measure = loop.call_at(loop.time() + LAG_S, self._measure, loop, loop.time() + LAG_S)


@contextlib.contextmanager
def signals(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Iterator[None]:
    """Lets SIGTERM and SIGINT make `call`, as often as they come; puts the handlers before back at the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python


def run(main: Coroutine[Any, Any, int]) -> int:
    """Runs a role on uvloop with as many file descriptors as the system allows; returns its exit status."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
