"""What must stay bounded and fresh (R1, S7), counted in messages and bytes; everything is looked at from outside.

R1: the duplicate window, dead letters, chunks, and chunks that belong to no valid chain. S7: once all is quiet the
newest valid snapshot holds everything that changed. L2: what nobody could read is a dead letter.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from dispatcher.shard import ShardOwner
from headgate.core.delivery.dead_letter_record import LetterAdded, decode_letter
from headgate.core.sequencer.snapshot import Chunk, chain_among
from headgate.core.sequencer.window import START
from headgate.core.wire.records import LogName
from tests.sim.faults import chunks_of

if TYPE_CHECKING:
    from tests.sim.world import World

BLOCKS: Final = 2 * 4_096 + 1_000  # ids leave by whole blocks, when the next record comes
LETTER: Final = 2_048  # bytes of a dead letter beside the record itself
BASE64: Final = 1.4
LOOSE: Final = 1 << 20  # bytes of an unfinished base, beside twice a whole chain


def check(world: "World", number: int) -> None:
    """Notes each bound that a shard has passed."""
    for owner in _owners(world, number):
        _window(world, number, owner)
    _letters(world, number)
    _chunks(world, number)
    if world.plan.is_wide:
        _loose_chunks(world, number)
        if not _is_fresh(world, number):
            chain = chain_among(chunks_of(world, number))
            at = chain[-1].offset if chain else None
            world.violate("S7", f"shard {number}: the newest valid snapshot ends at {at}, the log holds changes since")


def snapshots_are_fresh(world: "World") -> bool:
    """Says whether every shard that has an owner has a valid snapshot of all that changed."""
    return all(_is_fresh(world, number) for number in range(world.plan.shards))


def _owners(world: "World", number: int) -> Iterable[ShardOwner]:
    for node in world.dispatchers.values():
        owner = node.service.dispatcher.owners.get(number) if node.up else None
        if owner is not None:
            yield owner


def _is_fresh(world: "World", number: int) -> bool:
    if number in world.damaged:  # what is written behind a damaged chunk is in no chain until the next base
        return True
    chain = chain_among(chunks_of(world, number))
    rest = chain[-1].body().rest if chain else None
    saved = rest.changes if rest is not None else -1
    return all(owner.shard.changes <= saved for owner in _owners(world, number))


def _window(world: "World", number: int, owner: ShardOwner) -> None:
    config = owner.shard.config
    if config is None:
        return
    counts = {True: 0, False: 0}
    for piece in owner.shard.window.pieces(START, owner.shard.window.mark()):
        counts[piece.keyed] += len(piece.ids) // 16
    most = {True: config.dedup_max_ids + BLOCKS, False: 2 * config.dedup_unkeyed_ids + BLOCKS}
    for keyed, count in counts.items():
        if count > most[keyed]:
            kind = "keyed" if keyed else "unkeyed"
            world.violate("R1", f"shard {number}: {count} {kind} ids in the window, at most {most[keyed]} may be")


def _letters(world: "World", number: int) -> None:
    """A dead record costs its own size, once, however many items it has (C2)."""
    part = world.store.parts[LogName.DEAD_LETTERS, number]
    letters = {}  # an owner that takes over may write one again
    for record in part.slice(part.first, 1 << 30).records:
        found = decode_letter(record.value)
        if isinstance(found, LetterAdded) and found.letter.record is not None:
            letters[found.letter.id] = (found.letter.record.offset, len(record.value or b""))
    begin = world.written[number][0].offset
    sizes = {offset: len(world.written[number][offset - begin].value or b"") for offset, _ in letters.values()}
    most = BASE64 * sum(sizes.values()) + LETTER * len(sizes)
    total = sum(size for _, size in letters.values())
    if total > most:
        world.violate("R1", f"shard {number}: {total} bytes of dead letters for {len(sizes)} records of {most:.0f}")
    for shard, offset in world.truth.spoiled:
        if shard == number and offset not in sizes:
            world.violate("L2", f"shard {number}: the record at {offset} cannot be read and has no dead letter")


def _chunks(world: "World", number: int) -> None:
    """A chunk is as large as a chunk may be, or holds one entry (C1): the log takes it whatever the batches."""
    for chunk in chunks_of(world, number):
        body = chunk.body()
        entries = len(body.rows) + len(body.blocks) + (body.rest is not None)
        if entries > 1 and len(chunk.value) > world.plan.chunk_bytes:
            size, most = len(chunk.value), world.plan.chunk_bytes
            world.violate("R1", f"shard {number}: {entries} entries in a chunk of {size} bytes, at most {most} may be")
            return


def _loose_chunks(world: "World", number: int) -> None:
    chunks = chunks_of(world, number)
    whole = _in_valid_chains(chunks)
    part = world.store.parts[LogName.SNAPSHOTS, number]
    sizes = {record.offset: len(record.value or b"") for record in part.slice(part.first, 1 << 30).records}
    loose = sum(size for at, size in sizes.items() if at not in whole)
    most = 2 * (sum(sizes.values()) - loose) + LOOSE
    if loose > most:
        world.violate("R1", f"shard {number}: {loose} bytes of chunks in no valid chain, at most {most} may be")


def _in_valid_chains(chunks: list[Chunk]) -> set[int]:
    by_name = {chunk.name: chunk for chunk in chunks}
    whole: set[int] = set()
    for end in (chunk for chunk in chunks if chunk.is_end):
        chain = [end]
        while chain[-1].prev in by_name:
            chain.append(by_name[chain[-1].prev])
        if chain[-1].is_first:
            whole.update(chunk.at for chunk in chain)
    return whole
