"""The snapshots log read from its end: order, bounded memory, damage, and what is truncated meanwhile."""

import tracemalloc
from contextlib import aclosing

from headgate.core.sequencer.snapshot import BASE, END, NO_NAME, name_of, seal
from headgate.core.wire.records import LogName
from headgate.runtime.logs import chunks as module
from headgate.runtime.logs.chunks import chunks_back, newest_chain
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.system import SystemClock, SystemRng

EMPTY = b"\x93\x90\x90\xc0"


async def a_log() -> MemoryLog:
    log = MemoryLog(MemoryStore(SystemClock(), SystemRng(), 1, 1 << 40))
    await log.open()
    return log


async def write(log: MemoryLog, flags: int, prev: bytes, *, offset: int = 0, size: int = 0, floor: int = 0) -> bytes:
    value = seal(0, 1, flags, floor, offset, prev, EMPTY + bytes(size))
    await log.append(LogName.SNAPSHOTS, 0, None, value)
    return name_of(value)


async def offsets(log: MemoryLog, before: int | None = None) -> list[int]:
    async with aclosing(chunks_back(log, 0, before)) as chunks:
        return [chunk.offset async for chunk in chunks]


async def test_chunks_come_newest_first_and_what_is_damaged_is_passed_over() -> None:
    log = await a_log()
    assert await offsets(log) == []
    first = (await log.bounds(LogName.SNAPSHOTS, 0)).end
    for n in range(300):
        await write(log, END, NO_NAME, offset=n)
        if n % 7 == 0:
            await log.append(
                LogName.SNAPSHOTS, 0, None, b"\xffHS\x02 damaged, and long enough to be a chunk of ours " * 2
            )
    assert await offsets(log) == list(range(299, -1, -1))
    assert await offsets(log, first + 3) == [1, 0]


async def test_memory_is_bounded_whatever_the_log_holds() -> None:
    """200 chunks of 512 KiB are 100 MB: read with at most a window and a read of it."""
    log = await a_log()
    for n in range(200):
        await write(log, END, NO_NAME, offset=n, size=500_000)
    tracemalloc.start()
    assert await offsets(log) == list(range(199, -1, -1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * module.WINDOW_BYTES + 1e6


async def test_small_chunks_are_read_in_few_windows_and_large_ones_again_in_small_ones() -> None:
    log = await a_log()
    for n in range(100):
        await write(log, END, NO_NAME, offset=n, size=500_000)
    for n in range(100, 5_000):
        await write(log, END, NO_NAME, offset=n)
    opened = 0
    real = log.reader

    async def counted(*args, **named):  # type: ignore[no-untyped-def]
        nonlocal opened
        opened += 1
        return await real(*args, **named)

    log.reader = counted  # type: ignore[method-assign]
    assert await offsets(log) == list(range(4_999, -1, -1))
    assert opened < 30
    assert log.records_read["snapshots"] < 5_000 + 3 * 100


async def test_what_is_truncated_while_it_is_read_is_no_error() -> None:
    log = await a_log()
    for n in range(200):
        await write(log, END, NO_NAME, offset=n)
    found = []
    async with aclosing(chunks_back(log, 0)) as chunks:
        async for chunk in chunks:
            found.append(chunk.offset)
            if len(found) == 10:
                await log.truncate_before(LogName.SNAPSHOTS, 0, chunk.at - 50)
    assert found[0] == 199
    assert 10 <= len(found) < 200


async def test_the_newest_chain_is_found_between_a_zombies_chunks_and_unfinished_bases() -> None:
    log = await a_log()
    prev = zombie = NO_NAME
    names = []
    for n in range(40):
        prev = await write(log, BASE | (END if n == 39 else 0), prev, offset=77 * (n == 39), size=n)
        names.append(prev)
        zombie = await write(log, BASE, zombie if n % 10 else NO_NAME, size=1_000 + n)  # never ends
    prev = await write(log, END, prev, offset=99)
    assert [chunk.name for chunk in await newest_chain(log, 0)] == [*names, prev]
    assert [chunk.name for chunk in await newest_chain(log, 0, skip=[prev])] == names
    assert [chunk.name for chunk in await newest_chain(log, 0, at_most=98)] == names
    assert await newest_chain(log, 0, at_most=76) == []


async def test_a_broken_chain_costs_one_look_back_to_its_floor() -> None:
    log = await a_log()
    for _ in range(500):
        await write(log, BASE, NO_NAME, size=10)
    good = await write(log, BASE | END, NO_NAME, offset=5)
    floor = (await log.bounds(LogName.SNAPSHOTS, 0)).end
    prev = b"x" * 16
    for n in range(10):
        prev = await write(log, END, prev, offset=10 + n, floor=floor)
    assert [chunk.name for chunk in await newest_chain(log, 0)] == [good]
    assert log.records_read["snapshots"] < 150
