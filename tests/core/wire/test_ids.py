"""Hashes and ids against values computed by Kafka's own client, and their shape."""

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2

from headgate.core.wire import ids
from headgate.core.wire.errors import Refusal


@pytest.mark.parametrize(
    ("key", "expected"),
    [  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, expected: int) -> None:
    assert ids.murmur2(key) == expected & 0xFFFFFFFF


def test_the_hash_of_a_key_of_any_length_is_kafkas() -> None:
    for size in range(300):
        key = bytes(at * 37 % 256 for at in range(size))
        assert ids.murmur2(key) == murmur2(key) & 0xFFFFFFFF


def test_shard_agrees_with_aiokafkas_default_partitioner() -> None:
    partitions = list(range(12))
    for n in range(200):
        key = f"topic-{n}".encode()
        assert ids.shard_of(key, 12) == DefaultPartitioner()(key, partitions, partitions)


def test_a_message_id_names_the_shard_of_its_topic() -> None:
    for n in range(100):
        key = f"topic-{n}".encode()
        for message_id in (ids.keyed_id(key, "ann", "m"), ids.random_id(key, bytes(12)), ids.foreign_id(key, 1, n)):
            assert ids.shard_of_id(message_id, 12) == ids.shard_of(key, 12)


def test_a_keyed_id_is_a_uuid8_whose_first_bits_name_the_shard() -> None:
    key = b"prices"
    raw = ids.keyed_id(key, "ann", "m-1")
    text = ids.id_text(raw)
    assert text[14] == "8"
    assert text[19] in "89ab"
    assert int.from_bytes(raw[:4], "big") == ids.murmur2(key)
    assert raw == ids.keyed_id(key, "ann", "m-1")
    assert ids.id_bytes(text) == raw
    assert (
        len({raw, ids.keyed_id(key, "bob", "m-1"), ids.keyed_id(key, "ann", "m-2"), ids.keyed_id(b"p", "ann", "m-1")})
        == 4
    )


def test_parts_of_a_keyed_id_do_not_run_together() -> None:
    assert ids.keyed_id(b"t", "ab", "c") != ids.keyed_id(b"t", "a", "bc")


@pytest.mark.parametrize("good", ["a", "A.b_c:d-e", "9" * 128])
def test_good_topic_ids(good: str) -> None:
    assert ids.check_topic_id(good, create=True) == good


@pytest.mark.parametrize("bad", ["", ".a", "a/b", "a b", "ä", "9" * 129, None, 7, "a\n"])
def test_bad_topic_ids(bad: object) -> None:
    with pytest.raises(Refusal, match="invalid_topic_id"):
        ids.check_topic_id(bad)


@pytest.mark.parametrize("ours", ["hg:x", "dm:x"])
def test_reserved_ids_exist_but_cannot_be_created(ours: str) -> None:
    assert ids.check_topic_id(ours) == ours
    with pytest.raises(Refusal, match="belong to the server"):
        ids.check_topic_id(ours, create=True)


def test_epochs_keep_their_order_across_generations() -> None:
    assert ids.make_epoch(2, 0) > ids.make_epoch(1, (1 << 44) - 1)
    assert ids.make_epoch(511, (1 << 44) - 1) <= (1 << 53) - 1


def test_a_user_has_the_shard_that_a_topic_of_the_same_name_would_have() -> None:
    for name in ("ana", "é/x", "a" * 128):
        assert ids.user_shard(name, 8) == ids.shard_of(ids.topic_key(name), 8)
    assert {ids.user_shard(f"u{n}", 4) for n in range(64)} == set(range(4))
