"""Proxies know their callers, and cut one pair of processes and no other; clocks and disks of a process change."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import until
from tests.e2e.partition import Partition
from tests.kafka.ports import HeldPorts
from tests.kafka.settings import NodePorts, server
from tests.soak.callers import caller_of, naming
from tests.soak.hog import MOST_MIB, size_mib
from tests.soak.interposer import Interposer, compiled
from tests.soak.network import Network

CALLS = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as line:
    for text in sys.stdin:
        line.sendall(text.encode())
        print(line.recv(100).decode(), end="", flush=True)
"""


class Caller:
    """A process that sends what it is told and says what comes back."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process

    async def say(self, text: str, timeout_s: float) -> str | None:
        """Returns the echo, None when it does not come in time."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{text}\n".encode())
        return await self.hear(timeout_s)

    async def hear(self, timeout_s: float) -> str | None:
        """Returns the next echo, None when it does not come in time."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                return (await self._process.stdout.readline()).decode().strip()
        except TimeoutError:
            return None


@asynccontextmanager
async def _caller(port: int) -> AsyncIterator[Caller]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALLS, str(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def test_one_caller_is_cut_off_and_the_other_is_not_and_nothing_is_lost() -> None:
    held = HeldPorts.any(2)
    front, target = held.ports
    pids: dict[str, int | None] = {}
    async with (
        await asyncio.start_server(_echo, "127.0.0.1", target),
        Partition(front, target, naming(lambda: pids)) as way,
        _caller(front) as one,
        _caller(front) as other,
    ):
        pids |= {"one": one.pid, "other": other.pid}
        assert await one.say("a", 20) == "a"
        assert await other.say("b", 20) == "b"
        way.cut("one")
        assert await one.say("c", 0.3) is None
        assert await other.say("d", 20) == "d"
        way.heal("one")
        assert await one.hear(20) == "c"
        way.cut()
        assert await other.say("e", 0.3) is None
        way.heal()
        assert await other.hear(20) == "e"
    held.release()


async def test_a_caller_is_the_process_that_has_the_socket() -> None:
    async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
        to: int = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", to)
        port = writer.get_extra_info("sockname")[1]
        pids: Mapping[str, int | None] = {"gone": None, "init": 1, "me": os.getpid()}
        assert caller_of(port, to, pids) == "me"
        assert caller_of(port, to, {"gone": None}) is None
        writer.close()
        await writer.wait_closed()
        await until("the socket is gone", lambda: caller_of(port, to, pids) is None, 10)


def _python(interposer: Interposer, code: str) -> list[float]:
    done = subprocess.run([*interposer.before, sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    return [float(text) for text in done.stdout.split()]


@pytest.fixture(name="library", scope="module")
def _library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = compiled(tmp_path_factory.mktemp("interposer"))
    if library is None:
        pytest.skip("no C compiler: the faults of clocks and disks are left out of a soak too")
    return library


def test_the_wall_clock_of_a_process_is_shifted_and_its_monotonic_clock_is_not(library: Path, tmp_path: Path) -> None:
    interposer = Interposer(library, tmp_path / "control")
    code = "import time; print(time.time_ns() / 1e9, time.time(), time.monotonic())"
    for shift in (0.0, 300.0, -300.0):
        interposer.shift_clock(shift)
        before = time.time(), time.monotonic()
        wall, also, monotonic = _python(interposer, code)
        after = time.time(), time.monotonic()
        assert before[0] + shift <= wall <= also <= after[0] + shift
        assert before[1] <= monotonic <= after[1]


def test_a_slow_disk_makes_writes_of_files_longer_and_no_others(library: Path, tmp_path: Path) -> None:
    interposer = Interposer(library, tmp_path / "control")
    interposer.slow_disk(0.2)
    code = f"""
import os, time
def took(act):
    began = time.monotonic(); act(); return time.monotonic() - began
file = os.open({str(tmp_path / "file")!r}, os.O_CREAT | os.O_WRONLY)
pipe = os.pipe()[1]
found = [took(lambda: os.write(file, b"x")), took(lambda: os.pwrite(file, b"x", 1)), took(lambda: os.fsync(file))]
print(*found, took(lambda: os.write(pipe, b"x")))
"""
    *slow, quick = _python(interposer, code)
    assert all(each >= 0.2 for each in slow), slow
    assert quick < 0.2
    interposer.slow_disk(0.0)
    assert min(_python(interposer, code)) < 0.2


def test_a_hog_takes_half_of_what_is_free_and_at_most_its_bound() -> None:
    assert size_mib(1_000.0) == 500
    assert size_mib(100 * MOST_MIB) == MOST_MIB


class _Known(Network):
    """Processes of the test in place of brokers and roles."""

    names: Mapping[str, int | None] = {}

    def pids(self) -> Mapping[str, int | None]:
        return self.names


async def test_two_brokers_are_cut_off_from_each_other_on_every_way_and_roles_are_not() -> None:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(_Known(2, 0))
        one = network.placed[0]
        for port in (one.client, one.controller):
            await stack.enter_async_context(await asyncio.start_server(_echo, "127.0.0.1", port))
        fronts = (one.client_front, one.controller_front)

        async def joins(name: str, port: int) -> Caller:
            caller = await stack.enter_async_context(_caller(port))
            network.names = {name: caller.pid}  # a caller is named when it connects: Python takes longer to start
            assert await caller.say("here", 20) == "here"
            return caller

        others = [await joins("broker-2", port) for port in fronts]
        role = await joins("gateway-0", one.client_front)
        network.cut(["broker-2"], ["broker-1"])
        for other in others:
            assert await other.say("held", 0.3) is None
        assert await role.say("b", 20) == "b"
        network.heal(["broker-1"], ["broker-2"])
        for other in others:
            assert await other.hear(20) == "held"


def test_brokers_behind_proxies_tell_the_ports_of_the_proxies() -> None:
    placed = [NodePorts(1, 11, 12, 0, 13, 14), NodePorts(2, 21, 22, 0, 23, 24)]
    lines = server(placed[0], placed, Path("data")).splitlines()
    assert "listeners=PLAINTEXT://127.0.0.1:11,CONTROLLER://127.0.0.1:12" in lines
    assert "advertised.listeners=PLAINTEXT://127.0.0.1:13,CONTROLLER://127.0.0.1:14" in lines
    assert "controller.quorum.voters=1@127.0.0.1:14,2@127.0.0.1:24" in lines
