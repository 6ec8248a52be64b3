"""Which snapshots are kept: what history needs and three bases, whoever wrote them."""

from hashlib import blake2b

from dispatcher.old_snapshots import OldSnapshots
from headgate.core.sequencer.snapshot import NAME_BYTES
from headgate.core.sequencer.snapshot_writer import SnapshotWriter
from tests.dispatcher.test_snapshots import SNAPSHOTS, Node, bases, on_a_virtual_loop


@on_a_virtual_loop
async def test_h1_the_newest_base_at_or_below_the_logs_beginning_is_kept_and_all_after_it(node: Node) -> None:
    ends = await bases(node, 8)
    old = OldSnapshots(node.log, 0)
    await old.drop(ends[0] - 1)
    assert [at for base, at in node.ends() if base] == ends
    await old.drop(ends[3] - 1)
    assert [at for base, at in node.ends() if base] == ends[2:]
    await old.drop(ends[3])
    assert [at for base, at in node.ends() if base] == ends[3:]


@on_a_virtual_loop
async def test_three_bases_are_kept_however_little_the_log_holds(node: Node) -> None:
    ends = await bases(node, 6)
    await OldSnapshots(node.log, 0).drop(1 << 40)
    assert [at for base, at in node.ends() if base] == ends[-3:]


@on_a_virtual_loop
async def test_a_fresh_owner_drops_what_the_one_before_it_wrote_and_reads_no_more_than_it_must(node: Node) -> None:
    ends = await bases(node, 12)
    before = node.log.records_read["snapshots-background"]
    await OldSnapshots(node.log, 0).drop(ends[2])
    assert [at for base, at in node.ends() if base] == ends[2:]
    assert node.log.records_read["snapshots-background"] - before <= 16, "of 24"


@on_a_virtual_loop
async def test_unfinished_bases_and_another_writers_chunks_do_not_count(node: Node) -> None:
    ends = await bases(node, 2)
    for _ in range(70):
        steps = node.owner.writer.base(node.owner.shard, node.owner.rows, 0)
        for value in steps:
            if value is not None:
                head = bytearray(value[:-NAME_BYTES])
                head[6] &= 1  # no end
                cut = bytes(head)
                name = blake2b(cut, digest_size=NAME_BYTES).digest()
                await node.log.append(SNAPSHOTS, 0, None, cut + name)
                break
        steps.close()
    ends += await bases(node, 2)
    old = OldSnapshots(node.log, 0)
    await old.drop(ends[1])
    assert [at for base, at in node.ends() if base] == ends[1:]
    assert len(old._open) <= 64


@on_a_virtual_loop
async def test_a_base_that_began_before_the_oldest_kept_and_ended_after_it_stays_whole(node: Node) -> None:
    await bases(node, 1)
    node.messages(50_000)
    steps = node.owner.writer.base(node.owner.shard, node.owner.rows, 0)
    await node.log.append(SNAPSHOTS, 0, None, next(value for value in steps if value is not None))  # it ends later
    node.messages(1_000)
    zombie = SnapshotWriter()
    for value in zombie.base(node.owner.shard, node.owner.rows, 0):
        if value is not None:
            await node.log.append(SNAPSHOTS, 0, None, value)
    for value in steps:
        if value is not None:
            await node.log.append(SNAPSHOTS, 0, None, value)
    await bases(node, 1)
    await OldSnapshots(node.log, 0).drop(1 << 40)
    chunks = node.chunks()
    names = {c.name for c in chunks}
    broken = [c.at for c in chunks if c.is_base and not c.is_first and c.prev not in names]
    assert not broken
