"""The envelope's bytes, and what happens to broken ones."""

import pytest

from headgate.core.wire import envelope as e
from headgate.core.wire.errors import CorruptRecord, UnknownVersion

ID = bytes(range(16))
TAIL = b'"message_id":"x","publisher_id":"p","payload":1}'


def test_a_message_in_bytes() -> None:
    value = e.encode_message(e.Item(ID, e.KEYED, TAIL), epoch=(1 << 44) | 7)
    assert value[:8] == b"\xffHG\x00\x01\x01\x00\x01"
    assert value[8:24] == ID
    assert int.from_bytes(value[24:32], "big") == (1 << 44) | 7
    assert value[32:] == TAIL
    assert e.decode(value).items == (e.Item(ID, e.KEYED, TAIL),)


def test_no_text_begins_like_ours() -> None:
    with pytest.raises(UnicodeDecodeError):
        e.MAGIC[:1].decode()
    assert not e.is_ours(b'{"a":1}')


def test_a_bundle_comes_back_item_by_item() -> None:
    items = [e.Item(bytes([n]) * 16, n & 3, TAIL * n) for n in range(1, 5)]
    assert list(e.decode(e.encode_bundle(items, 9)).items) == items


@pytest.mark.parametrize("count", [0, e.MAX_ITEMS + 1])
def test_a_bundle_has_bounds(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        e.encode_bundle([e.Item(ID, 0, b"")] * count, 1)


def test_another_version_parks_and_is_no_dead_letter() -> None:
    with pytest.raises(UnknownVersion):
        e.decode(b"\xffHG\x00\x02")


@pytest.mark.parametrize(
    "value",
    [
        b"\xffHG\x00",
        b"\xffHG\x00\x01\x01",
        e.HEADER.pack(e.MAGIC, 1, 9, 0, ID, 1),
        e.HEADER.pack(e.MAGIC, 1, 2, 0, ID, 1),
        e.encode_bundle([e.Item(ID, 0, TAIL)], 1)[:-1],
    ],
)
def test_broken_bodies_are_corrupt(value: bytes) -> None:
    with pytest.raises(CorruptRecord):
        e.decode(value)


def test_every_cut_of_a_bundle_is_corrupt_or_shorter() -> None:
    value = e.encode_bundle([e.Item(ID, 0, TAIL), e.Item(ID, 0, TAIL)], 1)
    whole = e.HEADER.size + e.ITEM.size + len(TAIL)
    for cut in range(5, len(value)):
        if cut == whole:
            continue
        with pytest.raises(CorruptRecord):
            e.decode(value[:cut])
