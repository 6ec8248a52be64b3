"""Whatever a crash of the owner cuts off, no cursor that was answered is lost, none goes back, and none is invented."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from dispatcher.inbox_writer import InboxWriter
from dispatcher.shard_runner import ShardRunner
from headgate.core.inbox import cursors
from headgate.core.inbox.cursors import FAMILY, DeviceCursor, DeviceCursors, merged
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.inbox_record import CursorEntry
from headgate.core.wire.link_acks import Cursor, CursorsMoved, MoveCursors
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.dispatcher.bed import dispatcher_of, node_of, shell_of
from tests.dispatcher.members_bed import Far
from tests.dispatcher.test_membership_crashes import Crashing

OPTIONS = ShardOptions(snapshots=SnapshotOptions(check_s=0.01, least_s=0.0, interval_s=0.03, changes=3, base_s=0.3))
ROUNDS = 60
IDS = [(user, device, topic) for user in ("ann", "bob") for device in ("phone", "default") for topic in ("t", "u")]
Book = dict[tuple[str, str, str], DeviceCursor]


def note(book: Book, moved: list[Cursor]) -> None:
    for cursor in moved:
        ids = cursor.user_id, cursor.device_id, cursor.topic_id
        found = DeviceCursor(cursor.device_id, cursor.epoch, cursor.seq, 0, cursor.above, cursor.attempts)
        book[ids] = merged(found, book.get(ids, found))


class Gateway:
    """Sends cursors, late ones and repeats among them; knows what it sent and what was answered."""

    def __init__(self, rng: SeededRng) -> None:
        self.rng = rng
        self.sent: Book = {}
        self.answered: Book = {}
        self.open: dict[int, list[Cursor]] = {}
        self.reqs = 0

    def _cursor(self) -> Cursor:
        seq = self.rng.choice(range(self.reqs + 1))
        above = [seq + self.rng.choice(range(1, 6)) for _ in range(self.rng.choice(range(3)))]
        attempts = [(seq + self.rng.choice(range(1, 6)), self.rng.choice(range(1, 5)))]
        return Cursor(*self.rng.choice(IDS), self.rng.choice([7, 7, 7, 8]), seq, sorted({*above}), attempts)

    def move(self) -> MoveCursors:
        self.reqs += 1
        some = [self._cursor() for _ in range(self.rng.choice(range(1, 4)))]
        self.open[self.reqs] = some
        note(self.sent, some)
        return MoveCursors(self.reqs, 0, some)

    def take(self, answers: list[Any]) -> None:
        for answer in answers:
            some = self.open.pop(answer.req)
            if isinstance(answer, CursorsMoved):
                note(self.answered, some)
            else:
                self.open[-answer.req] = some  # it comes again


class Node:
    """A node with the shard, until it is stopped."""

    def __init__(self, loop: VirtualLoop, log: FaultyLog) -> None:
        shell = shell_of(loop)
        self.log = log
        self.dispatcher = dispatcher_of(shell, log)
        self.runner = ShardRunner(0, 1, node_of(log, self.dispatcher, shell, OPTIONS), self.dispatcher)
        self.peer = Far()

    async def serve(self, gateway: Gateway, rounds: int, again: Sequence[list[Cursor]] = ()) -> None:
        """Serves the gateway for some rounds, or until its log crashes; then what is sent `again`."""
        await self.log.open()
        task = asyncio.create_task(self.runner.run())
        async with asyncio.timeout(60):
            while self.runner.life.state is not ShardState.LIVE:
                await asyncio.sleep(0.01)
        crashed = self.log.crashed if isinstance(self.log, Crashing) else asyncio.Event()
        for _ in range(rounds):
            if crashed.is_set():
                break
            self._send(gateway.move())
            await asyncio.sleep(0.01)
            gateway.take(self.peer.taken())
        for some in again:
            self._send(MoveCursors(1, 0, some))
        if not rounds:
            await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.peer.open = False

    def _send(self, message: MoveCursors) -> None:
        self.dispatcher._handle_user(0, self.peer, message)  # type: ignore[arg-type]  # a twin of a link's end

    def stored(self) -> Book:
        owner = self.runner.owner
        assert owner is not None
        found = {ids: owner.inbox.users.cursors.find(*ids) for ids in IDS}
        return {ids: _unheard(cursor) for ids, cursor in found.items() if cursor is not None}


def _unheard(cursor: DeviceCursor) -> DeviceCursor:
    cursor.heard_s = 0
    return cursor


def below(low: Book, high: Book) -> bool:
    """Whether every cursor of the one is covered by the other."""
    return all(ids in high and merged(high[ids], cursor) == high[ids] for ids, cursor in low.items())


async def crashes(loop: VirtualLoop, at: int, *, arrives: bool) -> tuple[str, int]:
    """Crashes two owners in turn at their append number `at`; returns what is wrong, and how often they appended."""
    gateway = Gateway(SeededRng(at))
    store = MemoryStore(loop, SeededRng(1), 1, 1 << 28)
    appends = 0
    for _ in range(2):
        log = Crashing(store, at, arrives=arrives)
        await Node(loop, log).serve(gateway, ROUNDS)
        appends = max(appends, log.appends)
    last = Node(loop, FaultyLog(store))
    await last.serve(gateway, 0)
    stored = last.stored()
    if not below(gateway.answered, stored):
        return "an answered cursor is lost, or went back", appends
    if not below(stored, gateway.sent):
        return "a cursor that nobody sent", appends
    await last_sends_all_again(loop, store, gateway)
    assert gateway.answered or at < 10
    return "", appends


async def last_sends_all_again(loop: VirtualLoop, store: MemoryStore, gateway: Gateway) -> None:
    """What had no answer is sent again, twice and in another order: then all is as if no owner had ever crashed."""
    node = Node(loop, FaultyLog(store))
    await node.serve(gateway, 0, [*reversed(gateway.open.values()), *gateway.open.values()])
    assert node.stored() == gateway.sent


def crash(at: int, *, arrives: bool) -> tuple[str, int]:
    loop = VirtualLoop()
    return run(loop, crashes(loop, at, arrives=arrives))


@pytest.mark.parametrize("arrives", [True, False])
def test_after_crashes_at_every_append_the_cursors_are_what_was_answered_and_sent(arrives: bool) -> None:
    most = crash(1_000_000, arrives=arrives)[1]
    assert most > 60
    for at in range(1, most + 1):
        assert crash(at, arrives=arrives)[0] == "", f"crash at append {at}"


def _answered_early(patch: pytest.MonkeyPatch) -> None:
    """A cursor is answered before the log has it."""
    write = InboxWriter.write

    def early(writer: InboxWriter, entries: list[bytes], stored: Callable[[Any], None]) -> None:
        stored(None)
        write(writer, entries, lambda refusal: None)

    patch.setattr(InboxWriter, "write", early)


def _not_in_deltas(patch: pytest.MonkeyPatch) -> None:
    """A cursor moves, and no delta has it."""
    touch = SnapshotWriter.touch

    def forgetful(writer: SnapshotWriter, key: Any) -> None:
        if not isinstance(key, PairKey) or not key.key.startswith(FAMILY):
            touch(writer, key)

    patch.setattr(SnapshotWriter, "touch", forgetful)


def _goes_back(patch: pytest.MonkeyPatch) -> None:
    """The newest record wins, not the maximum."""
    patch.setattr(cursors, "merged", lambda one, other: merged(other, other))


def _never_ends(patch: pytest.MonkeyPatch) -> None:
    """A recreated topic's cursor is as good as one of the topic before: the higher seq wins."""
    merge = DeviceCursors.merge

    def mixed(rows: DeviceCursors, entry: CursorEntry, ts: int) -> bytes:
        known = rows.find(entry.user_id, entry.device_id, entry.topic_id)
        if known is not None and known.seq > entry.seq:
            entry = CursorEntry(entry.user_id, entry.device_id, entry.topic_id, entry.epoch, known.seq)
        return merge(rows, entry, ts)

    patch.setattr(DeviceCursors, "merge", mixed)


@pytest.mark.parametrize("plant", [_answered_early, _not_in_deltas, _goes_back, _never_ends])
def test_planted_faults_are_seen(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for at in range(1, 90, 2):
        try:
            if crash(at, arrives=False)[0]:
                return
        except AssertionError:
            return
    pytest.fail("no crash showed it")
