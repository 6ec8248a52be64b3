"""One verdict in the process and on the link: its bytes, and what a newer version may add."""

import msgspec
import pytest

from headgate.core.wire.verdict import Code, Verdict


def test_a_verdict_is_three_numbers_on_the_link() -> None:
    raw = msgspec.msgpack.encode(Verdict(Code.ACCEPTED, 7, 9))
    assert raw == b"\x93\x01\x07\x09"
    assert msgspec.msgpack.decode(raw, type=Verdict) == Verdict(Code.ACCEPTED, 7, 9)
    assert msgspec.msgpack.encode(Verdict(Code.NO_TOPIC)) == b"\x93\x03\x00\x00"


def test_a_code_of_a_newer_version_can_be_decoded() -> None:
    verdict = msgspec.msgpack.decode(msgspec.msgpack.encode([99, 0, 0]), type=Verdict)
    assert verdict.code == 99
    assert verdict.code not in set(Code)


def test_a_field_of_a_newer_version_is_ignored() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([1, 2, 3, "new"]), type=Verdict) == Verdict(1, 2, 3)


def test_a_verdict_never_changes() -> None:
    verdict = Verdict(Code.ACCEPTED, 7, 9)
    with pytest.raises(AttributeError):
        verdict.seq = 8  # type: ignore[misc]


def test_the_codes_are_what_older_versions_send() -> None:
    """Codes are in the digests of nodes that run different versions: they are never given another number."""
    assert [(code.name, code.value) for code in Code] == [
        ("ACCEPTED", 1),
        ("DUPLICATE", 2),
        ("NO_TOPIC", 3),
        ("STALE_EPOCH", 4),
        ("CREATED", 5),
        ("EXISTS", 6),
        ("DELETED", 7),
        ("IGNORED", 8),
        ("DEAD", 9),
        ("CONFIGURED", 10),
        ("UNKNOWN", 11),
        ("MEMBER", 12),
        ("REMOVED", 13),
        ("UPDATED", 14),
        ("FORBIDDEN", 15),
        ("LAST_OWNER", 16),
        ("CONFLICT", 17),
        ("CHANGED", 18),
    ]
