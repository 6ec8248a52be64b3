"""The lines of a backup file: one JSON object a line, the manifest first and the counts with a checksum last.

    manifest | revocation ... | shard, topic, member, changed ..., cursor, mark, head ... | shard ... | end

The lines of a shard stand together: of each topic the topic itself, its members, its changed messages. `end` has the
SHA-256 of every byte before it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import msgspec

from headgate.core.sequencer.rows import Tally
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.member_roles import Role

FORMAT: Final = 1
LINE_BYTES: Final = 1 << 20  # the longest is a cursor of a consumer group, below 64 KB
LEFT_OUT: Final = ("messages", "dead_letters", "duplicate_window", "presence")


class BadBackup(HeadgateError):
    """A backup that is damaged, cut, or of a format that this version does not read."""


class Manifest(msgspec.Struct, tag_field="type", tag="manifest"):
    """Whose backup it is. `made_at` is Unix milliseconds, `left_out` names what the file does not have."""

    format: int
    cluster_id: str
    generation: int
    shards: int
    made_at: int
    left_out: list[str]


class RevocationLine(msgspec.Struct, tag_field="type", tag="revocation"):
    """A record of the revocations log."""

    key: str
    value: str


class ShardLine(msgspec.Struct, tag_field="type", tag="shard"):
    """What follows is the state of a shard at these offsets of its messages and its inbox log."""

    shard: int
    messages: int
    inbox: int


class TopicLine(msgspec.Struct, tag_field="type", tag="topic"):
    """A topic; the fields are those of `Row`."""

    topic_id: str
    epoch: int
    seq: int
    others: int
    name: str
    permissions: str
    owner_id: str
    created_at: int
    settings: dict[str, Any]
    version: int
    fence: int
    tally: Tally | None
    heat: str


class MemberLine(msgspec.Struct, tag_field="type", tag="member"):
    """A member of a topic; the fields are those of `Membership`."""

    topic_id: str
    user_id: str
    role: Role
    joined_seq: int
    joined_n: int
    joined_at: int


class ChangedLine(msgspec.Struct, tag_field="type", tag="changed"):
    """A message that was edited or redacted, and its version."""

    topic_id: str
    seq: int
    version: int
    redacted: bool


class CursorLine(msgspec.Struct, tag_field="type", tag="cursor"):
    """How far a device of a user, or a consumer group, has come; the fields are those of `DeviceCursor`."""

    user_id: str
    device_id: str
    topic_id: str
    epoch: int
    seq: int
    heard_s: int
    above: list[int]
    attempts: list[tuple[int, int]]


class MarkLine(msgspec.Struct, tag_field="type", tag="mark"):
    """How far a user has read; the fields are those of `StoredMark`."""

    user_id: str
    topic_id: str
    epoch: int
    seq: int
    n: int
    heard_s: int


class HeadLine(msgspec.Struct, tag_field="type", tag="head"):
    """When the newest message of a topic was appended, in Unix milliseconds, as a shard of its members knows it."""

    topic_id: str
    epoch: int
    ts: int


class EndLine(msgspec.Struct, tag_field="type", tag="end"):
    """How many lines of each type there are, and the SHA-256 of all bytes before this line, in hexadecimal."""

    counts: dict[str, int]
    sha256: str


StateLine = TopicLine | MemberLine | ChangedLine | CursorLine | MarkLine | HeadLine
Line = StateLine | Manifest | RevocationLine | ShardLine | EndLine

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class _Beginning(msgspec.Struct):
    """What a manifest of every format has."""

    type: str = ""
    format: int = 0


def encode_line(line: Line) -> bytes:
    """Returns a line with its line feed."""
    return _encoder.encode(line) + b"\n"


def decode_line(value: bytes) -> Line:
    """Reads a line. Raises BadBackup."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBackup(f"the backup is damaged: {error}") from None


class BackupWriter:
    """Writes a backup; `counts` are its lines by type."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.counts: Counter[str] = Counter()
        self._write = write
        self._hash = hashlib.sha256()

    def add(self, line: Line) -> None:
        """Writes a line."""
        value = encode_line(line)
        self._hash.update(value)
        self.counts[str(line.__struct_config__.tag)] += 1
        self._write(value)

    def finish(self) -> None:
        """Writes the last line."""
        self._write(encode_line(EndLine(dict(self.counts), self._hash.hexdigest())))


class BackupReader:
    """Reads a backup: the manifest at once, then the other lines. Raises BadBackup."""

    def __init__(self, file: BinaryIO) -> None:
        self.counts: Counter[str] = Counter()
        self._file = file
        self._hash = hashlib.sha256()
        self._number = 0
        self.manifest = self._manifest()

    def lines(self) -> Iterator[Line]:
        """Yields the lines between the first and the last.

        Whether the file is whole is known once they all were yielded: a last line is missing or wrong in one that is
        not.
        """
        while True:
            value = self._next()
            line = self._decoded(value)
            if isinstance(line, EndLine):
                break
            if isinstance(line, Manifest):
                raise BadBackup(f"line {self._number} of the backup is a second manifest")
            self._note(line, value)
            yield line
        if line.sha256 != self._hash.hexdigest() or line.counts != dict(self.counts):
            raise BadBackup("the backup is damaged: its checksum or its counts are wrong; take another copy of it")
        if self._file.read(1):
            raise BadBackup(f"something follows the last line ({self._number}) of the backup")

    def _manifest(self) -> Manifest:
        value = self._next()
        try:
            found = msgspec.json.decode(value, type=_Beginning)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = _Beginning()
        if found.type != "manifest":
            raise BadBackup("this is no backup: its first line is no manifest")
        if found.format != FORMAT:
            raise BadBackup(f"the backup has format {found.format}, this version reads {FORMAT}")
        manifest = self._decoded(value)
        assert isinstance(manifest, Manifest)
        self._note(manifest, value)
        return manifest

    def _note(self, line: Line, value: bytes) -> None:
        self._hash.update(value)
        self.counts[str(line.__struct_config__.tag)] += 1

    def _decoded(self, value: bytes) -> Line:
        try:
            return decode_line(value)
        except BadBackup as error:
            raise BadBackup(f"line {self._number}: {error}") from None

    def _next(self) -> bytes:
        value = self._file.readline(LINE_BYTES)
        self._number += 1
        if not value.endswith(b"\n"):
            why = "is cut" if len(value) < LINE_BYTES else f"has more than {LINE_BYTES} bytes"
            raise BadBackup(f"the backup is damaged: line {self._number} {why}")
        return value
