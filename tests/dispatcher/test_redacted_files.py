"""The files of an index after redactions: no byte of what was redacted, at a bounded cost."""

import json
from pathlib import Path
from random import Random

import pytest

from dispatcher.index import HistoryIndex
from dispatcher.index_changes import ChangeTables
from dispatcher.recent import RecentMessage
from headgate.core.wire.control import Actor
from headgate.core.wire.frames import message_frame
from headgate.core.wire.message_changes import EditMessage, RedactMessage
from tests.dispatcher.messages_bed import ME, MessagesBed


def grep(path: Path, word: bytes) -> list[str]:
    return [file.name for file in path.iterdir() if word in file.read_bytes()]


@pytest.mark.parametrize("written", ["before", "after", "between", "many edits"])
async def test_no_byte_of_a_redacted_payload_is_left_in_the_files(tmp_path: Path, written: str) -> None:
    bed = MessagesBed(path=tmp_path / "index.db")
    for n in range(300):
        bed.publish("x" * (n * 37 % 900))
    word = "hunter2" * 40
    secret = bed.publish(word)
    edits = 1_200 if written == "many edits" else 3
    for n in range(edits):
        bed.edit(secret, f"{word}{n}", n + 1)
    for n in range(300):
        bed.publish("y" * (n * 53 % 1500))
    if written != "after":
        bed.write()
        assert grep(tmp_path, b"hunter2")
    if written == "between":
        bed.edit(secret, word, edits + 1)
    bed.redact(secret)
    bed.write()
    while bed.owner.history.tidy():
        pass
    assert grep(tmp_path, b"hunter2") == []
    assert grep(tmp_path, b"y" * 200), "others are untouched"
    assert "hunter2" not in json.dumps([bed.history(after_seq=n, limit=1000) for n in (0, 900)])


async def test_edits_are_blanked_in_slices_of_bounded_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.index_changes.MOVED_BYTES", 20_000)
    file = HistoryIndex(tmp_path / "index.db", ME)
    entries = [stored(1, "hunter2")]
    for n in range(2, 2_000):
        change = EditMessage(1, 1 << 10, n // 400, Actor("bob")) if n % 400 == 0 else None
        entries.append(stored(n, ("hunter2" if change else "x") * 150)._replace(change=change))
    file.write(entries, (1, 2_000))
    file.note([stored(2_000, "")._replace(change=RedactMessage(1, 1 << 10, True, Actor("bob")))])
    slices = 1
    while file.changes.due() is not None:
        assert file.tidy(0)
        slices += 1
    assert slices == 4 and grep(tmp_path, b"hunter2") == []


async def test_many_redactions_at_once_are_blanked_in_slices_and_shown_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.index_changes.MOVED_BYTES", 10_000)
    bed = MessagesBed(path=tmp_path / "index.db")
    for _ in range(100):
        bed.publish("hunter2" * 30)
    bed.write()
    bed.feed(*(bed.changing(RedactMessage(seq, bed.places[seq], True, Actor("bob"))) for seq in range(1, 101)))
    assert b"hunter2" not in b"".join(bed.page(limit=200).frames), "though most are only noted"
    file = bed.owner.history.file
    assert file is not None and file.changes.due() is not None and grep(tmp_path, b"hunter2")
    file.close()
    bed.open(tmp_path / "index.db")
    bed.write()
    while bed.owner.history.tidy():
        pass
    assert grep(tmp_path, b"hunter2") == []


async def test_blanking_long_edits_writes_few_of_the_rows_around_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = ChangeTables._write_anew

    def measured(tables: ChangeTables, pos: int) -> tuple[int, int]:
        last, size = write(tables, pos)
        sizes.append(size)
        return last, size

    monkeypatch.setattr(ChangeTables, "_write_anew", measured)
    file = HistoryIndex(tmp_path / "index.db", ME)
    file.write([stored(1, "hunter2")], (1, 2))
    for n in range(2, 302):
        change = EditMessage(1, 1 << 10, n - 1, Actor("bob"))
        file.write([stored(n, "hunter2" * 9_000)._replace(change=change)], (n, n + 1))
    file.note([stored(302, "")._replace(change=RedactMessage(1, 1 << 10, True, Actor("bob")))])
    while file.changes.due() is not None:
        assert file.tidy(0)
    assert sum(sizes) < 40 << 20 and max(sizes) < 5 << 20, "19 MB were to be blanked"
    assert grep(tmp_path, b"hunter2") == []


@pytest.mark.parametrize("order", [1, -1])
async def test_a_rebuild_from_a_log_that_has_the_record_does_not_bring_it_back(tmp_path: Path, order: int) -> None:
    bed = MessagesBed(path=None)
    bed.publish("hunter2")
    bed.edit(1, "hunter2 again")
    bed.redact(1)
    bed.publish("other")
    entries = list(bed.owner.history.recent._entries)
    file = HistoryIndex(tmp_path / "index.db", ME)
    for entry in entries[::order]:
        offset = entry.pos >> 10
        file.write([entry], (offset, offset + 1))
    assert grep(tmp_path, b"hunter2") == []
    assert grep(tmp_path, b"other")
    file.close()
    assert grep(tmp_path, b"hunter2") == []


@pytest.mark.parametrize("seed", [11, 14, 20])
async def test_copies_that_moved_rows_left_in_free_parts_of_pages_are_removed_too(tmp_path: Path, seed: int) -> None:
    """A file written newest first, as a rebuild does it: rows move to other pages. Without `_write_anew` all fail."""
    rng = Random(seed)
    file = HistoryIndex(tmp_path / "index.db", ME)
    entries = [stored(n, f"S{n}hunter2" * rng.randrange(1, 150) if n % 40 == 0 else "x" * int(rng.expovariate(1 / 300)))
               for n in range(1, 1_200)]  # fmt: skip
    high = len(entries)
    while high:
        low = max(0, high - rng.randrange(30, 400))
        for at in range(low, high, 50):
            some = entries[at : min(at + 50, high)]
            file.write(some, (some[0].pos >> 10, (some[-1].pos >> 10) + 1))
        high = low
    assert grep(tmp_path, b"hunter2")
    for target in rng.sample(range(40, 1_200, 40), 29):
        change = RedactMessage(target, target << 10, True, Actor("bob"))
        file.note([stored(9_000 + target, "")._replace(change=change)])
    file.close()
    assert grep(tmp_path, b"hunter2") == []


def stored(n: int, text: str) -> RecentMessage:
    tail = b'"message_id":"m","publisher_id":"bob","payload":"%b"}' % text.encode()
    return RecentMessage(n << 10, 7, n, b"%016d" % n, 1, message_frame("t", n, 1, tail))
