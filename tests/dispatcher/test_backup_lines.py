"""The file of a backup: what is damaged, cut or of another format is refused, and says so."""

import io
from typing import BinaryIO

import pytest

from dispatcher.backup_lines import (
    FORMAT,
    LINE_BYTES,
    BackupReader,
    BackupWriter,
    BadBackup,
    Line,
    Manifest,
    MemberLine,
    ShardLine,
    encode_line,
)
from headgate.core.wire.member_roles import Role

MANIFEST = Manifest(FORMAT, "c", 3, 2, 1_700_000_000_000, ["messages"])
LINES: list[Line] = [ShardLine(0, 7, 8), MemberLine("t", "ann", Role.OWNER, 0, 0, 1), ShardLine(1, 9, 10)]


def written(*lines: Line) -> bytes:
    file = io.BytesIO()
    writer = BackupWriter(file.write)
    for line in lines:
        writer.add(line)
    writer.finish()
    return file.getvalue()


def read(file: bytes | BinaryIO) -> list[Line]:
    reader = BackupReader(io.BytesIO(file) if isinstance(file, bytes) else file)
    return [reader.manifest, *reader.lines()]


def test_what_was_written_is_read() -> None:
    file = written(MANIFEST, *LINES)
    assert read(file) == [MANIFEST, *LINES]
    assert file.count(b"\n") == 2 + len(LINES)


@pytest.mark.parametrize("at", range(0, 465, 15))
def test_every_damaged_byte_is_noticed(at: int) -> None:
    file = bytearray(written(MANIFEST, *LINES))
    file[at] ^= 1
    with pytest.raises(BadBackup):
        read(bytes(file))


@pytest.mark.parametrize("size", range(0, 465, 15))
def test_a_file_that_was_cut_is_noticed(size: int) -> None:
    file = written(MANIFEST, *LINES)
    assert len(file) == 465
    with pytest.raises(BadBackup, match=r"cut|no manifest"):
        read(file[:size])


def test_a_line_that_is_missing_or_comes_twice_is_noticed() -> None:
    lines = written(MANIFEST, *LINES).splitlines(keepends=True)
    for wrong in ([*lines[:2], *lines[3:]], [*lines[:2], *lines[1:]]):
        with pytest.raises(BadBackup, match="checksum"):
            read(b"".join(wrong))


def test_another_format_is_refused_by_its_number() -> None:
    other = encode_line(MANIFEST).replace(b'"format":1', b'"format":2').replace(b'"generation":3,', b"")
    with pytest.raises(BadBackup, match="has format 2, this version reads 1"):
        read(other)
    with pytest.raises(BadBackup, match="no backup"):
        read(b'{"type":"message"}\n')
    with pytest.raises(BadBackup, match="no backup"):
        read(b"hello\n")


def test_nothing_may_follow_and_no_second_manifest_may_come() -> None:
    with pytest.raises(BadBackup, match="follows the last line"):
        read(written(MANIFEST, *LINES) + b"{}\n")
    with pytest.raises(BadBackup, match="second manifest"):
        read(written(MANIFEST, MANIFEST))


def test_an_endless_line_is_not_read_to_its_end() -> None:
    with pytest.raises(BadBackup, match=f"has more than {LINE_BYTES} bytes"):
        read(encode_line(MANIFEST) + b" " * (LINE_BYTES + 1))
