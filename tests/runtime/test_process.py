"""The life of a process: signals at any moment, the drain in order and within its deadline, handlers put back."""

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog
import uvloop

from headgate.runtime.admin import make_app
from headgate.runtime.http.server import HttpServer
from headgate.runtime.metrics import Metrics
from headgate.runtime.process import COLLECT_AFTER, Process
from headgate.runtime.system import SystemClock

Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=sorted(LOOPS))
def loop_factory(request: pytest.FixtureRequest) -> Loop:
    return LOOPS[request.param]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Own handlers, so that a signal which comes too late is an error here and not the end of pytest."""

    def stray(number: int, frame: object) -> None:
        raise AssertionError(f"signal {number} came when nobody waited for it")

    before = {number: signal.signal(number, stray) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == dict.fromkeys(before, stray)
    for number, handler in before.items():
        signal.signal(number, handler)


def process(deadline_s: float = 5.0) -> Process:
    return Process("gateway", Metrics(frozenset({"gateway"})), SystemClock(), deadline_s)


def run(loop_factory: Loop, main: Coroutine[Any, Any, int]) -> int:
    async def bounded() -> int:
        async with asyncio.timeout(20):
            return await main

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(bounded())


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("has_port", [False, True])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_signal_in_the_first_turn_of_the_loop_ends_the_process(
    loop_factory: Loop, number: int, has_port: bool, is_first: bool
) -> None:
    """The admin port is being opened then: its server must be closed, or closing the loop waits for it for ever."""

    async def main() -> int:
        life = process()

        async def kill() -> None:
            send(number)

        if is_first:
            life.task("kill", kill)
        if has_port:
            server = HttpServer("127.0.0.1", 0, make_app(Metrics(frozenset({"gateway"})), life.checks))
            life.task("http", server.serve)
            life.at_drain(server.end_idle)
            life.on_drain("http", server.finish)
        if not is_first:
            life.task("kill", kill)
        return await life.run("127.0.0.1", 0)

    assert run(loop_factory, main()) == 0


def test_a_signal_before_the_first_turn_ends_the_process(loop_factory: Loop) -> None:
    async def main() -> int:
        life = process()
        life.stopping.set()
        return await life.run("127.0.0.1", 0)

    assert run(loop_factory, main()) == 0


def test_a_task_that_fails_at_once_raises_and_closes_the_admin_port(loop_factory: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]

    async def main() -> int:
        life = process()

        async def fail() -> None:
            raise OSError("the disk is away")

        life.task("fail", fail)
        return await life.run("127.0.0.1", port)

    with pytest.raises(ExceptionGroup) as caught:
        run(loop_factory, main())
    assert caught.group_contains(OSError, match="the disk is away")
    socket.create_server(("127.0.0.1", port)).close()


def test_the_drain_runs_its_calls_then_its_steps_in_order_and_a_failed_step_stops_no_other(loop_factory: Loop) -> None:
    done: list[str] = []

    async def main() -> int:
        life = process()

        async def step(name: str) -> None:
            await asyncio.sleep(0)
            done.append(name)
            if name == "second":
                raise ValueError(name)

        for name in ("first", "second", "third"):
            life.on_drain(name, lambda name=name: step(name))  # type: ignore[misc]  # bound now
        life.at_drain(lambda: done.append("at once"))
        asyncio.get_running_loop().call_later(0.05, send)
        assert life.checks["draining"]() is None
        status = await life.run("127.0.0.1", 0)
        assert life.checks["draining"]() == "the process is stopping"
        return status

    assert run(loop_factory, main()) == 0
    assert done == ["at once", "first", "second", "third"]


def test_the_drain_ends_at_its_deadline(loop_factory: Loop) -> None:
    done: list[str] = []

    async def main() -> int:
        life = process(deadline_s=0.2)

        async def never() -> None:
            await asyncio.Event().wait()

        async def last() -> None:
            done.append("last")

        life.on_drain("never", never)
        life.on_drain("last", last)
        asyncio.get_running_loop().call_soon(send)
        return await life.run("127.0.0.1", 0)

    began = time.monotonic()
    with structlog.testing.capture_logs() as lines:
        assert run(loop_factory, main()) == 0
    assert time.monotonic() - began >= 0.2
    assert done == []
    assert [line["event"] for line in lines] == ["draining", "drain deadline passed; stopping as things stand"]


def test_a_second_signal_during_the_drain_neither_shortens_nor_repeats_it(loop_factory: Loop) -> None:
    done: list[str] = []

    async def main() -> int:
        life = process()

        async def step() -> None:
            send()
            send(signal.SIGINT)
            await asyncio.sleep(0.1)
            done.append("step")

        life.on_drain("step", step)
        asyncio.get_running_loop().call_soon(send)
        return await life.run("127.0.0.1", 0)

    assert run(loop_factory, main()) == 0
    assert done == ["step"]


def test_the_collector_is_rare_while_the_process_runs(loop_factory: Loop) -> None:
    before = gc.get_threshold()
    seen: list[tuple[int, int, int]] = []

    async def look() -> None:
        await asyncio.sleep(0.02)
        seen.append(gc.get_threshold())
        send()

    async def main() -> int:
        life = process()
        life.task("look", look)
        return await life.run("127.0.0.1", 0)

    assert run(loop_factory, main()) == 0
    assert seen == [COLLECT_AFTER]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_nothing_of_the_process_is_left_on_the_loop() -> None:
    """The timer that measures the loop's lag ends with the process."""

    async def main() -> int:
        asyncio.get_running_loop().call_later(0.02, send)
        status = await process().run("127.0.0.1", 0)
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [timer for timer in timers if not timer.cancelled() and "_measure" in repr(timer)] == []
        return status

    assert run(asyncio.new_event_loop, main()) == 0


async def test_a_server_whose_task_never_began_is_closed_by_finish() -> None:
    server = HttpServer("127.0.0.1", 0, make_app(Metrics(frozenset({"gateway"})), {}))
    port = server.port
    async with asyncio.timeout(5):
        await server.finish()
        await server.serve()
    socket.create_server(("127.0.0.1", port)).close()


async def test_a_server_cancelled_while_it_starts_is_closed() -> None:
    server = HttpServer("127.0.0.1", 0, make_app(Metrics(frozenset({"gateway"})), {}))
    port = server.port
    serving = asyncio.create_task(server.serve())
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    socket.create_server(("127.0.0.1", port)).close()


async def test_the_date_is_renewed_and_a_server_without_connections_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headgate.runtime.http.server._DATE_S", 0.01)
    server = HttpServer("127.0.0.1", 0, make_app(Metrics(frozenset({"gateway"})), {}))
    serving = asyncio.create_task(server.serve())
    state = server._server.server_state
    async with asyncio.timeout(5):
        for _ in range(3):  # at the start, and then again and again
            state.default_headers = []
            while not any(name == b"date" for name, _ in state.default_headers):
                await asyncio.sleep(0.005)
        monkeypatch.setattr("headgate.runtime.http.server._DATE_S", 60.0)
        await asyncio.sleep(0.05)
        await server.finish()
        await serving


def test_readiness_is_a_metric_too() -> None:
    metrics = Metrics(frozenset({"gateway"}))
    process = Process("gateway", metrics, SystemClock(), 1.0)
    assert b"headgate_ready 1.0" in metrics.render()
    process.checks["log"] = lambda: "no log"
    assert b"headgate_ready 0.0" in metrics.render()
    del process.checks["log"]
    process.check("some_owners", lambda: "1 of 64 shards", partial=True)
    assert b"headgate_ready 1.0" in metrics.render(), "it serves the others"


def test_of_two_checks_with_one_name_the_first_that_fails_is_said() -> None:
    life, says = process(), {"a": None, "b": "b is away"}
    for name in ("a", "b"):
        life.check("owners", lambda name=name: says[name])  # type: ignore[misc]
    assert life.checks["owners"]() == "b is away"
    says["a"] = "a is away"
    assert life.checks["owners"]() == "a is away"
    says.update(a=None, b=None)
    assert life.checks["owners"]() is None
