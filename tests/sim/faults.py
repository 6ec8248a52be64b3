"""What each kind of fault does to a run; knows no invariant."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from headgate.core.records import LogName
from headgate.core.snapshot import read_chunk
from headgate.runtime.logs.memory import Reach
from tests.sim.nodes import Line, SimLog
from tests.sim.plan import Fault

if TYPE_CHECKING:
    from tests.sim.world import World


async def happen(world: "World", fault: Fault) -> None:
    """Does it, and heals it when its time is over."""
    await _KINDS[fault.kind](world, fault)


async def _crash(world: "World", fault: Fault) -> None:
    node = world.dispatchers[fault.who]
    if node.up:
        await node.crash(fault.extra)
        await asyncio.sleep(fault.length)
        await node.start()


async def _drain(world: "World", fault: Fault) -> None:
    node = world.dispatchers[fault.who]
    run_ = node.run
    if node.up:
        await node.drain()
        await asyncio.sleep(fault.length)
        if node.run == run_ and not node.up:
            await node.start()


async def _zombie(world: "World", fault: Fault) -> None:
    log = world.dispatchers[fault.who].log
    log.freeze(io=False)
    log.deaf = True
    await asyncio.sleep(fault.length)
    log.deaf = False
    log.thaw()


async def _pause(world: "World", fault: Fault) -> None:
    log = world.dispatchers[fault.who].log
    log.freeze()
    await asyncio.sleep(fault.length)
    log.thaw()


async def _cut(world: "World", fault: Fault) -> None:
    for line in _some_lines(world, fault):
        line.cut(fault.length)


async def _hole(world: "World", fault: Fault) -> None:
    for line in _some_lines(world, fault):
        line.hole(fault.length)


def _some_lines(world: "World", fault: Fault) -> list[Line]:
    lines = world.lines_of(fault.who)
    at = int(fault.extra * (len(lines) + 2))
    return lines[at : at + 1] or lines


async def _gateway(world: "World", fault: Fault) -> None:
    node = next(g for g in world.gateways if g.name == fault.who)
    if node.up:
        node.crash()
        await asyncio.sleep(fault.length)
        node.start()


async def _ingest(world: "World", fault: Fault) -> None:
    node = world.ingests[fault.who]
    if node.up:
        node.crash(fault.extra)
        await asyncio.sleep(fault.length)
        await node.start()


async def _refused(world: "World", fault: Fault) -> None:
    await _reach(world, fault, Reach.REFUSED)


async def _silent(world: "World", fault: Fault) -> None:
    await _reach(world, fault, Reach.SILENT)


async def _reach(world: "World", fault: Fault, reach: Reach) -> None:
    log = _log_of(world, fault.who)
    if log.reach is Reach.OK:
        log.reach = reach
        await asyncio.sleep(fault.length)
        if log.is_open:
            log.reach = Reach.OK


def _log_of(world: "World", name: str) -> SimLog:
    return world.dispatchers[name].log if name in world.dispatchers else world.ingests[name].log


async def _slow(world: "World", fault: Fault) -> None:
    log = world.ingests[fault.who].log
    log.slow_s = 1.0 + fault.extra * 11.0
    await asyncio.sleep(fault.length)
    log.slow_s = 0.0


async def _delete(world: "World", fault: Fault) -> None:
    await world.keeper.delete(fault.who)
    await asyncio.sleep(fault.length)
    if fault.extra < 0.85:
        await world.keeper.create(fault.who)


async def _forget(world: "World", fault: Fault) -> None:
    """Retention: the log forgets what stands before a snapshot."""
    shard = int(fault.who)
    part = world.store.parts[LogName.SNAPSHOTS, shard]
    chunks = [read_chunk(r.offset, r.value) for r in part.slice(part.first, 1_000_000).records]
    ends = [chunk.offset for chunk in chunks if chunk is not None and chunk.is_end]
    live = [node.service.dispatcher.owners.get(shard) for node in world.dispatchers.values() if node.up]
    applied = [owner.shard.next_offset for owner in live if owner is not None]
    if ends and applied:  # nobody is so slow that the log forgets what it has not read
        log = world.store.parts[LogName.MESSAGES, shard]
        log.truncate_before(min(ends[-1], *applied))
        world.trace("log", f"{shard} begins at {log.first}")


async def _client(world: "World", fault: Fault) -> None:
    client = world.clients[int(fault.who[1:])]
    if fault.extra < 0.2:
        client.unfollow()
    else:
        client.drop(fault.length)


async def _stall(world: "World", fault: Fault) -> None:
    world.clients[int(fault.who[1:])].stalled_until = world.loop.now() + fault.length


_KINDS: Final[dict[str, Callable[["World", Fault], Awaitable[None]]]] = {
    "crash": _crash,
    "drain": _drain,
    "zombie": _zombie,
    "pause": _pause,
    "cut": _cut,
    "hole": _hole,
    "gateway": _gateway,
    "ingest": _ingest,
    "refused": _refused,
    "silent": _silent,
    "slow": _slow,
    "delete": _delete,
    "forget": _forget,
    "client": _client,
    "stall": _stall,
}
