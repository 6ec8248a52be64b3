"""A topic's row and the state of a shard beside the rows, as values."""

import msgspec
import pytest

from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.rows import Row, Shard, Tally
from headgate.core.wire.control import Config
from headgate.core.wire.member_roles import Role

ROW = Row("t", 7, 3, "Name", "PUBLIC", "ann", 1_000, {"retention_messages": 5})


@pytest.mark.parametrize(
    ("settings", "ephemeral"),
    [({}, False), ({"profile": "ephemeral"}, True), ({"profile": "durable"}, False), ({"ephemeral": True}, False)],
)
def test_only_the_profile_makes_a_topic_ephemeral(settings: dict[str, object], ephemeral: bool) -> None:
    row = Row("t", 7, 0, "Name", "PUBLIC", "ann", 1_000, settings)
    assert row.ephemeral is ephemeral


def test_a_row_is_an_array_in_the_order_of_its_fields() -> None:
    """Snapshots hold rows: a field may be appended, never moved."""
    raw = msgspec.msgpack.encode(ROW)
    array = ["t", 7, 3, "Name", "PUBLIC", "ann", 1_000, {"retention_messages": 5}]
    assert msgspec.msgpack.decode(raw) == [*array, 0, 0, 0, None, ""]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(array), type=Row) == ROW  # as written before members
    assert msgspec.msgpack.decode(raw, type=Row) == ROW


def test_rows_are_equal_by_value_and_differ_in_any_field() -> None:
    for name in Row.__struct_fields__:
        assert msgspec.structs.replace(ROW, **{name: "other"}) != ROW
    assert msgspec.structs.replace(ROW) == ROW


def test_a_shard_has_generation_0_until_its_config_is_there() -> None:
    shard = Shard()
    assert (shard.config, shard.generation, shard.next_offset, shard.changes, len(shard.window)) == (None, 0, 0, 0, 0)
    shard.config = Config(cluster_id="c", generation=4, shards=1, shard=0)
    assert shard.generation == 4


def test_two_shards_share_nothing() -> None:
    one, other = Shard(), Shard()
    one.window.add(1, 1, True, 0, 0)
    one.digest.fold(0, 1, b"\x01")
    assert (len(other.window), other.digest.value) == (0, bytes(16))
    assert one.digest.value != other.digest.value


def test_the_members_of_a_topic_are_its_creator_until_there_are_others() -> None:
    shard, key = Shard(), b"t"
    creator = ("ann", Membership(Role.OWNER, 0, 0, 1_000))
    assert shard.members_above(key, ROW, "", 9) == [creator]
    assert shard.members_above(key, ROW, "ann", 9) == shard.members_above(key, ROW, "", 0) == []
    members = shard.members[key] = Members(7)
    bob = Membership(Role.MEMBER, 1, 1, 2_000)
    members.put("bob", bob)
    assert shard.members_above(key, ROW, "", 9) == [("bob", bob)]


def test_a_version_that_knows_no_tally_reads_a_row_with_one_and_the_other_way_round() -> None:
    class OldRow(msgspec.Struct, array_like=True):
        topic_id: str
        epoch: int
        seq: int
        name: str
        permissions: str
        owner_id: str
        created_at: int
        settings: dict[str, object]
        version: int = 0
        fence: int = 0
        others: int = 0

    new = msgspec.structs.replace(ROW, tally=Tally(1, 2, 3))
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(new), type=OldRow)
    assert (old.topic_id, old.others) == (new.topic_id, new.others)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=Row) == ROW
