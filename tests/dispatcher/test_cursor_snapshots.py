"""Cursors in the snapshots of a shard: all of them, rows of any size, and none longer than it means something."""

from dispatcher.shard_runner import ShardRunner
from headgate.core.inbox.cursors import DEVICES, ROW_BYTES, DeviceCursor, row_key
from headgate.core.sequencer.snapshot import CHUNK_BYTES
from headgate.core.wire.inbox_record import encode_cursor, records_of_cursors
from headgate.core.wire.link_acks import WINDOW, Cursor, CursorLease
from headgate.core.wire.records import LogName
from headgate.runtime.system import SystemClock
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.log_suite import read_from
from tests.dispatcher.bed import CLOCK, owner_in, owning, until
from tests.dispatcher.members_bed import Far
from tests.dispatcher.test_recovery import a_log
from tests.dispatcher.test_user_inbox import OFTEN, membership, wrote

DAY_MS = 86_400_000


async def moved(log: FaultyLog, *cursors: Cursor) -> int:
    for value, _ in records_of_cursors([encode_cursor(cursor) for cursor in cursors]):
        at = await log.append(LogName.INBOX, 0, None, value)
    return at.offset + 1


async def has_read(runner: ShardRunner, end: int) -> None:
    await until(lambda: owner_in(runner).inbox.users.next_offset >= end)


def found(runner: ShardRunner, user: str, device: str = "d", topic: str = "t") -> DeviceCursor | None:
    return owner_in(runner).inbox.users.cursors.find(user, device, topic)


async def test_a_new_owner_has_what_the_snapshot_and_the_log_after_it_have() -> None:
    log = await a_log()
    async with owning(log, final=True) as runner:
        end = await moved(log, *(Cursor(f"u{n}", "d", "t", 7, n, [n + 2], [(n + 1, 2)]) for n in range(2_000)))
        await has_read(runner, end)
    await log.truncate_before(LogName.INBOX, 0, end)
    end = await moved(
        log, Cursor("u1", "d", "t", 7, 9), Cursor("u2", "d", "t", 7, 0, [3]), Cursor("new", "d", "t", 7, 1)
    )
    async with owning(log) as runner:
        await has_read(runner, end)
        users = owner_in(runner).inbox.users
        assert len(users.cursors) == 2_001
        for user, seq, above, attempts in (
            ("u1", 9, [], []), ("u2", 4, [], []), ("u1999", 1_999, [2_001], [(2_000, 2)]), ("new", 1, [], []),
        ):  # fmt: skip
            cursor = found(runner, user)
            assert cursor is not None and (cursor.seq, cursor.above, cursor.attempts) == (seq, above, attempts)


async def test_rows_as_large_as_they_get_fit_the_chunks_of_a_base_that_is_read_back_and_of_a_delta() -> None:
    log = await a_log()
    most = (1 << 53) - 1
    failed = [(seq, most) for seq in range(most - WINDOW, most)]
    cursors = [
        Cursor(f"u{n % 20}", f"{n:0128}", "t", most, most - WINDOW - 1, [seq for seq, _ in failed[1:]], failed)
        for n in range(20 * DEVICES // 8)
    ]
    async with owning(log, OFTEN) as runner:
        owner = owner_in(runner)
        await until(lambda: owner.writer.has_chain)
        end = await moved(log, *cursors)  # a delta
        await until(lambda: owner.inbox_snapshot_offset == end, 20)
        owner.writer.forget()
        await until(lambda: owner.writer.has_chain, 20)
        assert owner.inbox_snapshot_offset == end, "the base was checked"
        sizes = [len(owner.inbox.users.encoded(row_key(f"u{n}", "t")) or b"") for n in range(20)]
    assert min(sizes) > ROW_BYTES // 2 and max(sizes) <= ROW_BYTES
    bounds = await log.bounds(LogName.SNAPSHOTS, 0)
    chunks = await read_from(log, LogName.SNAPSHOTS, 0, bounds.first, bounds.end - bounds.first)
    assert len(chunks) > 2 and max(len(chunk.value or b"") for chunk in chunks) <= CHUNK_BYTES
    await log.truncate_before(LogName.INBOX, 0, end)
    async with owning(log) as runner:
        assert [len(owner_in(runner).inbox.users.encoded(row_key(f"u{n}", "t")) or b"") for n in range(20)] == sizes


class Later(SystemClock):
    """Eight days later."""

    def now(self) -> float:
        return super().now() + 8 * DAY_MS / 1_000

    def wall_ms(self) -> int:
        return super().wall_ms() + 8 * DAY_MS


async def test_a_base_forgets_cursors_of_nobody_and_the_next_owner_has_none_of_them() -> None:
    log = await a_log()
    async with owning(log, OFTEN) as runner:
        owner = owner_in(runner)
        await wrote(log, "member", membership("t"))
        end = await moved(log, *(Cursor(user, "d", "t", 7, 5) for user in ("member", "held", "nobody")))
        await has_read(runner, end)
        owner.leases.take(Far(), CursorLease("held", "d", "t", "a", 1))
        owner.writer.forget()
        await until(lambda: owner.writer.has_chain, 20)
        assert all(found(runner, user) for user in ("member", "held", "nobody")), "they are new"
        owner.time._clock = Later()
        owner.writer.forget()
        await until(lambda: not found(runner, "nobody"), 20)
        await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0, 20)
        assert found(runner, "member")
        held = found(runner, "held")
        assert held is not None and held.heard_s > CLOCK.wall_ms() // 1_000 + 7 * 86_400
    await log.truncate_before(LogName.INBOX, 0, end)
    async with owning(log) as runner:
        assert [bool(found(runner, user)) for user in ("member", "held", "nobody")] == [True, True, False]
        assert found(runner, "held") == held
