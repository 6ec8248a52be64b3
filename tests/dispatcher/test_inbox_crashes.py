"""Whatever a crash of the owner cuts off, no answered read mark is lost or goes back, and no head of the log is."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dispatcher.inbox_writer import InboxWriter
from headgate.core.inbox import read_marks, topic_heads
from headgate.core.inbox.read_marks import ReadMarks, StoredMark, mark_key
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire.inbox_record import HeadEntry, MarkEntry, encode_head, records_of_heads
from headgate.core.wire.link_inbox import MarksMoved, MoveMarks, ReadMark
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.dispatcher.test_cursor_crashes import ROUNDS, Node
from tests.dispatcher.test_membership_crashes import Crashing

IDS = [(user, topic) for user in ("ann", "bob") for topic in ("t", "u")]
Book = dict[Any, tuple[int, ...]]


def note(book: Book, key: Any, place: tuple[int, ...]) -> None:
    book[key] = max(place, book.get(key, ()))


class Reader:
    """A gateway that sends read marks, late ones and repeats among them; knows what it sent and what was answered."""

    def __init__(self, rng: SeededRng) -> None:
        self.rng = rng
        self.sent: Book = {}
        self.answered: Book = {}
        self.heads: Book = {}  # that the log has
        self.open: dict[int, list[ReadMark]] = {}
        self.reqs = 0

    def _mark(self) -> ReadMark:
        seq = self.rng.choice(range(self.reqs + 1))
        return ReadMark(*self.rng.choice(IDS), self.rng.choice([7, 7, 7, 8]), seq, seq // 2)

    def move(self) -> MoveMarks:
        self.reqs += 1
        some = self.open[self.reqs] = [self._mark() for _ in range(self.rng.choice(range(1, 4)))]
        self._note(self.sent, some)
        return MoveMarks(self.reqs, 0, some)

    def head(self) -> HeadEntry:
        seq = self.rng.choice(range(self.reqs + 1))
        return HeadEntry(self.rng.choice(["t", "u"]), self.rng.choice([7, 7, 8]), seq, seq // 2, seq)

    def take(self, answers: list[Any]) -> None:
        for answer in answers:
            some = self.open.pop(answer.req)
            if isinstance(answer, MarksMoved):
                self._note(self.answered, some)

    def _note(self, book: Book, some: list[ReadMark]) -> None:
        for mark in some:
            note(book, (mark.user_id, mark.topic_id), (mark.epoch, mark.seq, mark.n))


class InboxNode(Node):
    """A node with the shard; a topic's owner writes a head each time that the gateway sends."""

    reader: Reader

    def _send(self, message: Any) -> None:
        super()._send(message)
        head = self.reader.head()
        ((value, _),) = records_of_heads(0, [encode_head(head)])
        future = self.log.append(LogName.INBOX, 0, None, value)
        future.add_done_callback(lambda done: self._written(head, done))

    def _written(self, head: HeadEntry, done: "asyncio.Future[Any]") -> None:
        if not done.cancelled() and done.exception() is None:
            note(self.reader.heads, head.topic_id, (head.epoch, head.seq, head.n))

    def marks(self) -> Book:
        assert self.runner.owner is not None
        found = {ids: self.runner.owner.inbox.users.marks.find(*ids) for ids in IDS}
        return {ids: (mark.epoch, mark.seq, mark.n) for ids, mark in found.items() if mark is not None}

    def heads(self) -> Book:
        assert self.runner.owner is not None
        found = {topic: self.runner.owner.inbox.users.heads.find(topic) for topic in "tu"}
        return {topic: (head.epoch, head.seq, head.n) for topic, head in found.items() if head is not None}


def node_of(loop: VirtualLoop, log: FaultyLog, reader: Reader) -> InboxNode:
    node = InboxNode(loop, log)
    node.reader = reader
    return node


async def crashes(loop: VirtualLoop, at: int, *, arrives: bool) -> tuple[str, int]:
    """Crashes two owners in turn at their append number `at`; returns what is wrong, and how often they appended."""
    reader = Reader(SeededRng(at))
    store = MemoryStore(loop, SeededRng(1), 1, 1 << 28)
    appends = 0
    for _ in range(2):
        log = Crashing(store, at, arrives=arrives)
        await node_of(loop, log, reader).serve(reader, ROUNDS)  # type: ignore[arg-type]  # it moves and takes
        appends = max(appends, log.appends)
    last = node_of(loop, FaultyLog(store), reader)
    await last.serve(reader, 0)  # type: ignore[arg-type]
    stored = last.marks()
    if not below(reader.answered, stored):
        return "an answered mark is lost, or went back", appends
    if not below(stored, reader.sent):
        return "a mark that nobody sent", appends
    if not below(reader.heads, last.heads()):
        return "a head that the log has is lost, or went back", appends
    assert (reader.answered and reader.heads) or at < 30
    return "", appends


def below(low: Book, high: Book) -> bool:
    return all(key in high and high[key] >= place for key, place in low.items())


def crash(at: int, *, arrives: bool) -> tuple[str, int]:
    loop = VirtualLoop()
    return run(loop, crashes(loop, at, arrives=arrives))


@pytest.mark.parametrize("arrives", [True, False])
def test_after_crashes_at_any_append_marks_are_what_was_answered_and_heads_what_was_written(arrives: bool) -> None:
    most = crash(1_000_000, arrives=arrives)[1]
    assert most > 120
    for at in range(1, most + 1, 4):
        assert crash(at, arrives=arrives)[0] == "", f"crash at append {at}"


def _answered_early(patch: pytest.MonkeyPatch) -> None:
    """A mark is answered before the log has it."""
    write = InboxWriter.write

    def early(writer: InboxWriter, entries: list[bytes], stored: Callable[[Any], None]) -> None:
        stored(None)
        write(writer, entries, lambda refusal: None)

    patch.setattr(InboxWriter, "write", early)


def _not_in_deltas(patch: pytest.MonkeyPatch, family: bytes) -> None:
    touch = SnapshotWriter.touch

    def forgetful(writer: SnapshotWriter, key: Any) -> None:
        if not isinstance(key, PairKey) or not key.key.startswith(family):
            touch(writer, key)

    patch.setattr(SnapshotWriter, "touch", forgetful)


def _marks_not_in_deltas(patch: pytest.MonkeyPatch) -> None:
    """A mark moves, and no delta has it."""
    _not_in_deltas(patch, read_marks.FAMILY)


def _heads_not_in_deltas(patch: pytest.MonkeyPatch) -> None:
    """A head moves, and no delta has it."""
    _not_in_deltas(patch, topic_heads.FAMILY)


def _goes_back(patch: pytest.MonkeyPatch) -> None:
    """The newest record wins, not the maximum."""

    def last(rows: ReadMarks, entry: MarkEntry, ts: int) -> tuple[bytes, bool]:
        key = mark_key(entry.user_id, entry.topic_id)
        rows.load(key, msgspec.msgpack.encode(StoredMark(entry.epoch, entry.seq, entry.n, ts // 1_000)))
        return key, True

    patch.setattr(ReadMarks, "merge", last)


@pytest.mark.parametrize("plant", [_answered_early, _marks_not_in_deltas, _heads_not_in_deltas, _goes_back])
def test_planted_faults_are_seen(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(crash(at, arrives=False)[0] for at in range(1, 150, 3)), "no crash showed it"
