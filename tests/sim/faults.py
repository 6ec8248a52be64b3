"""What each kind of fault does to a run; knows no invariant."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from headgate.core.sequencer.shard_state import ShardState
from headgate.core.sequencer.snapshot import MAX_OFFSET, Chunk, chain_among, read_chunk
from headgate.core.wire.records import LogName, Record
from headgate.runtime.testing.faulty_log import Reach
from tests.sim.lines import Line
from tests.sim.nodes import SimLog
from tests.sim.plan import Fault

if TYPE_CHECKING:
    from tests.sim.world import World


AHEAD_MS: Final = 30 * 86_400_000
RETENTION_MS: Final = 7 * 86_400_000


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
    end = _newest_end(chunks_of(world, shard))
    live = [node.service.dispatcher.owners.get(shard) for node in world.dispatchers.values() if node.up]
    applied = [owner.shard.next_offset for owner in live if owner is not None]
    if end and applied:  # nobody is so slow that the log forgets what it has not read
        _cut_before(world, shard, min(end, *applied))


async def _retain(world: "World", fault: Fault) -> None:
    """Retention takes a part of what stands before the newest snapshot, whoever still wants to read it.

    It begins behind the first snapshot there is: retention is days, a snapshot comes within half a minute.
    """
    shard = int(fault.who)
    ends = _whole_ends(chunks_of(world, shard))
    first = max(world.forgotten(shard), min(ends, default=0))
    if ends and ends[-1] > first:
        _cut_before(world, shard, first + int(fault.extra * (ends[-1] - first)) + 1)


async def _expire(world: "World", fault: Fault) -> None:
    """Retention by time, as Kafka's: it asks no snapshot."""
    shard = int(fault.who)
    log = world.store.parts[LogName.MESSAGES, shard]
    horizon = world.loop.wall_ms() - RETENTION_MS
    kept = next((r.offset for r in log.slice(log.first, 1 << 30).records if r.ts >= horizon), log.end)
    end = _newest_end(chunks_of(world, shard))
    if kept > max(end, log.first) and shard not in world.damaged:
        world.violate("S7", f"shard {shard}: retention reaches offset {kept}, the newest valid snapshot ends at {end}")
    _cut_before(world, shard, min(kept, end))


def _cut_before(world: "World", shard: int, offset: int) -> None:
    log = world.store.parts[LogName.MESSAGES, shard]
    log.truncate_before(offset)
    world.trace("log", f"{shard} begins at {log.first}")


def chunks_of(world: "World", shard: int) -> list[Chunk]:
    """Returns what can be read of a shard's snapshots, decoded anew: restoring must not depend on who did before."""
    part = world.store.parts[LogName.SNAPSHOTS, shard]
    found = (read_chunk(r.offset, r.value) for r in part.slice(part.first, 1 << 30).records)
    return [chunk for chunk in found if chunk is not None]


def _newest_end(chunks: list[Chunk], at_most: int = MAX_OFFSET) -> int:
    chain = chain_among(chunks, at_most)
    return chain[-1].offset if chain else 0


def _whole_ends(chunks: list[Chunk]) -> list[int]:
    """Returns the offsets at which valid chains end, ascending."""
    ends = sorted({chunk.offset for chunk in chunks if chunk.is_end})
    return [end for end in ends if _newest_end(chunks, end) == end]


def readable_from(world: "World", shard: int) -> int:
    """Returns the offset from which history must be readable in the end: where the log begins.

    Without the snapshot from before that, which may have been damaged, nobody can number what stands there.
    """
    first = world.forgotten(shard)
    if shard not in world.damaged or first == world.written[shard][0].offset:
        return first
    chunks = chunks_of(world, shard)
    whole = _whole_ends(chunks)
    return first if not whole or whole[0] <= first else whole[0]


async def _damage(world: "World", fault: Fault) -> None:
    """A chunk of the newest chain is damaged; an older chain is still good for the log that is left."""
    shard = int(fault.who)
    chunks = chunks_of(world, shard)
    chain = chain_among(chunks)
    if not chain:
        return
    at = chain[int(fault.extra * len(chain))].at
    if _newest_end([p for p in chunks if p.at != at]) >= world.forgotten(shard):
        part = world.store.parts[LogName.SNAPSHOTS, shard]
        damaged = part.slice(at, 1).records[0]
        part._records[at - part.first] = Record(at, damaged.ts, None, b"damaged")
        world.damaged.add(shard)
        world.trace("log", f"snapshot chunk {shard}:{at} is damaged")


async def _clock(world: "World", fault: Fault) -> None:
    """The brokers' clock is 30 days ahead for a while."""
    world.broker_clock.ahead_ms = AHEAD_MS
    await asyncio.sleep(fault.length)
    world.broker_clock.ahead_ms = 0


async def _full(world: "World", fault: Fault) -> None:
    """The disk of a node's index is full for a while: that is nothing to live delivery (L1)."""
    node = world.dispatchers[fault.who]
    disk = node.disk
    disk.full = True
    until = world.loop.now() + fault.length
    while world.loop.now() < until and node.up and node.disk is disk:
        for runner in node.service.runners():
            if runner.life.state is ShardState.PARKED and "full" in runner.why:
                world.violate("L1", f"{node.name}: a full disk of the index parks shard {runner.number}")
        await asyncio.sleep(0.2)
    disk.full = not node.up or node.disk is not disk  # a process that died meanwhile writes nothing more


async def _wipe(world: "World", fault: Fault) -> None:
    """A node dies and comes back without its index files."""
    node = world.dispatchers[fault.who]
    if node.up:
        await node.crash(fault.extra)
        node.wipe()
        await asyncio.sleep(fault.length)
        await node.start()


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
    "retain": _retain,
    "expire": _expire,
    "damage": _damage,
    "clock": _clock,
    "full": _full,
    "wipe": _wipe,
    "client": _client,
    "stall": _stall,
}
