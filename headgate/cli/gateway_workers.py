"""`headgate gateway`, and with `--workers N` a supervisor of N gateway processes on one port and one admin port.

Each worker is a whole gateway: it has a name, links, sessions and limits of its own. The kernel spreads new connections
over them (SO_REUSEPORT). The supervisor starts a worker again that has ended, hands SIGTERM on, and answers probes and
scrapes for all. A worker whose supervisor is gone drains and ends.
"""

import asyncio
import contextlib
import multiprocessing
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from http import HTTPStatus
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final
from urllib.parse import urlencode

import msgspec
import structlog

from headgate.cli.invocation import CommandFailed, reason_of
from headgate.core.wire.errors import HeadgateError
from headgate.runtime.admin import CONNECTIONS, excluded
from headgate.runtime.http.application import HttpApp
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.endpoints import endpoints_of
from headgate.runtime.http.paths import Paths
from headgate.runtime.http.problem import CONTENT_TYPE as PROBLEM
from headgate.runtime.http.problem import RETRY_AFTER_S
from headgate.runtime.http.server import HttpServer
from headgate.runtime.logging import configured
from headgate.runtime.merged_metrics import merged
from headgate.runtime.metrics import CONTENT_TYPE
from headgate.runtime.process import run, signals
from headgate.runtime.settings import Settings
from headgate.runtime.sockets import reserve

logger = structlog.get_logger("workers")

LOCAL: Final = "127.0.0.1"
RESTART_S: Final = 1.0  # between the end of a worker and its next start; twice as long after each short life
LONGEST_S: Final = 30.0
STEADY_S: Final = 60.0  # a life that is not short
ASK_S: Final = 2.0  # for a probe or a scrape of one worker
ALIVE_S: Final = 2.0  # between two looks whether a worker answers
MISSES: Final = 3  # in a row: it is killed, about 12 s after it stopped answering
END_S: Final = 1.0  # for the last steps of a process
_spawn: Final = multiprocessing.get_context("spawn")  # a fork would share the supervisor's loop and signals
_ask: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def gateway(settings: Settings) -> int:
    """Runs the stream side; returns the exit status."""
    if settings.gateway.workers > 1:
        return run(_supervise(settings))
    from headgate.cli import roles  # noqa: PLC0415 - a supervisor does not carry what a gateway needs

    return roles.gateway(settings)


def work(settings: Settings, supervisor: Connection) -> None:
    """The main function of a worker's process."""
    from headgate.cli import roles  # noqa: PLC0415 - see above

    with configured(role="gateway"):
        try:
            status = roles.gateway_worker(settings, supervisor)
        except HeadgateError as error:
            status, _ = 1, sys.stderr.write(f"{error}\n")
        except OSError as error:
            status, _ = 1, sys.stderr.write(f"{reason_of(error)}\n")
    sys.exit(status)


class Worker:
    """One worker's process, over all its lives. `admin_port` is 0 while it has not said it."""

    def __init__(self, number: int, settings: Settings, stopping: asyncio.Event) -> None:
        self.number = number
        self.admin_port = 0
        self._settings = settings
        self._stopping = stopping

    async def keep(self) -> None:
        """Starts it, and again when it has ended, until `stopping`. Raises CommandFailed if it never listened."""
        loop, was_up, pause_s = asyncio.get_running_loop(), False, RESTART_S
        while not self._stopping.is_set():
            began, status = loop.time(), None
            try:
                async with self._process() as process:
                    was_up = await self._watched(process) or was_up
                status = process.exitcode
            except OSError as error:  # no descriptor, no memory
                logger.warning("a worker cannot be started", worker=self.number, why=str(error))
            if self._stopping.is_set():
                return
            if not was_up:
                raise CommandFailed(f"worker {self.number} ended before it listened")
            pause_s = RESTART_S if loop.time() - began > STEADY_S else min(2 * pause_s, LONGEST_S)
            logger.warning("a worker has ended and is started again", worker=self.number, status=status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _watched(self, process: BaseProcess) -> bool:
        """Returns when the process has ended, is not alive, or was told to stop; says whether it had listened."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(process.sentinel, ended.set)
        waits = [asyncio.ensure_future(each) for each in (ended.wait(), self._stopping.wait(), self._hung())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set() and not ended.is_set():
                process.terminate()
                await asyncio.wait(waits[:1], timeout=self._settings.drain.deadline_s + END_S)
            if ended.is_set():
                await asyncio.to_thread(process.join, END_S)  # it is on its last steps
            return self.admin_port > 0
        finally:
            for each in waits:
                each.cancel()
            loop.remove_reader(process.sentinel)
            self.admin_port = 0

    async def _hung(self) -> None:
        """Returns when the worker has listened and does not answer any longer."""
        misses = 0
        while misses < MISSES:
            await asyncio.sleep(ALIVE_S)
            status, _ = await self.ask("/livez") if self.admin_port else (HTTPStatus.OK, "")
            misses = 0 if status == HTTPStatus.OK else misses + 1

    @contextlib.asynccontextmanager
    async def _process(self) -> AsyncIterator[BaseProcess]:
        """Runs one life; a process that is there at the end is killed. Raises OSError where there is no room for it."""
        loop = asyncio.get_running_loop()
        ours, its = _spawn.Pipe()
        try:
            process = _spawn.Process(target=work, args=(self._settings, its), name=f"gateway-{self.number}")
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()

        def told() -> None:
            try:
                self.admin_port = ours.recv()
            except (EOFError, OSError):
                loop.remove_reader(ours.fileno())

        loop.add_reader(ours.fileno(), told)
        try:
            yield process
        finally:
            loop.remove_reader(ours.fileno())
            ours.close()
            if process.is_alive():
                logger.warning("a worker is killed", worker=self.number)
                process.kill()
            process.join(END_S)

    async def ask(self, path: str) -> tuple[int, str]:
        """Asks its admin port; (0, why) without an answer."""
        if not self.admin_port:
            return 0, "it is starting"
        return await asyncio.to_thread(_get, f"http://{LOCAL}:{self.admin_port}{path}")


def _get(url: str) -> tuple[int, str]:
    try:
        with _ask.open(url, timeout=ASK_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, f"it does not answer: {error}"


def _why(status: int, text: str) -> str:
    """Returns why a worker is not ready: its reasons, or that it gives none."""
    if status != HTTPStatus.SERVICE_UNAVAILABLE:
        return text
    return ", ".join(f"{name}: {why}" for name, why in msgspec.json.decode(text)["checks"].items())


def make_app(workers: list[Worker], stopping: asyncio.Event) -> HttpApp:
    """Returns the admin application of the supervisor: ready while one worker is."""

    async def live(_: Call) -> Reply:
        return reply({"live": True})

    async def ready(call: Call) -> Reply:
        left_out = excluded(call.query_string)
        query = f"?{urlencode([('exclude', name) for name in sorted(left_out)])}" if left_out else ""
        answers = await asyncio.gather(*(worker.ask(f"/readyz{query}") for worker in workers))
        for status, text in answers:
            if status == HTTPStatus.BAD_REQUEST:  # a name that is no check
                return Reply(status, text.encode(), content_type=PROBLEM)
        failing = {
            f"worker {worker.number}": _why(status, text)
            for worker, (status, text) in zip(workers, answers, strict=True)
            if status != 200
        }
        if stopping.is_set():
            failing["draining"] = "the process is stopping"
        elif len(failing) < len(workers):
            return reply({"ready": True, "checks": failing})
        return reply({"ready": False, "checks": failing}, 503, ((b"retry-after", b"%d" % RETRY_AFTER_S),))

    async def numbers(_: Call) -> Reply:
        answers = await asyncio.gather(*(worker.ask("/metrics") for worker in workers))
        texts = {str(each.number): text for each, (status, text) in zip(workers, answers, strict=True) if status == 200}
        return Reply(200, merged(texts), content_type=CONTENT_TYPE.encode())

    return HttpApp(Paths(endpoints_of("admin"), {"live": live, "ready": ready, "metrics": numbers}), None)


async def _supervise(settings: Settings) -> int:
    stopping = asyncio.Event()
    with reserve(settings.gateway.host, settings.gateway.port) as held:
        whole = settings.gateway.model_copy(update={"port": _port_of(held)})
        own = settings.admin.model_copy(update={"host": LOCAL, "port": 0})
        each = settings.model_copy(update={"gateway": whole, "admin": own})
        workers = [Worker(number, each, stopping) for number in range(1, settings.gateway.workers + 1)]
        admin = HttpServer(
            settings.admin.host or LOCAL, settings.admin.port, make_app(workers, stopping), connections=CONNECTIONS
        )
        try:
            with signals(asyncio.get_running_loop(), stopping.set):
                async with asyncio.TaskGroup() as tasks:
                    serving = tasks.create_task(admin.serve())
                    logger.info("workers listen", workers=len(workers), port=whole.port)
                    await asyncio.gather(*(tasks.create_task(worker.keep()) for worker in workers))
                    await admin.finish()
                    await serving
        except* CommandFailed as group:
            raise group.exceptions[0] from None
        finally:
            admin.close()
    return 0


def _port_of(held: socket.socket) -> int:
    return int(held.getsockname()[1])
