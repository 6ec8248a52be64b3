"""Link version 1 on the wire: every message comes back, and newer ones can be read."""

import msgspec
import pytest

from headgate.core import link
from headgate.core.rights import Caller


def test_a_batch_comes_back_in_order() -> None:
    batch: list[link.Message] = [
        link.Hello(1, 1, "gateway", "g1", "", 0),
        link.Welcome(1, "d1", "c", 1, 8, [link.Owner(0, 5, "h:1", True)]),
        link.Subscribe(1, "t", Caller("ann", ("a*",)), ("seq", -1, 7), True),
        link.Messages("t", 5, 1, [10, 11], [b"a", b"b"]),
        link.Attach(0, True, False, [link.AttachTopic("t", 5, 1, 2)]),
        link.Refused(1, "forbidden", "no", {"first_seq": 4}),
    ]
    assert link.decode_batch(link.encode_batch(batch)) == batch


def test_tags_are_unique_and_listed() -> None:
    kinds = link.Message.__args__
    tags = [k.__struct_config__.tag for k in kinds]
    assert len(set(tags)) == len(tags) == 28


def test_a_field_of_the_next_version_is_passed_over() -> None:
    longer = msgspec.msgpack.encode([[18 + 1, "t", 5, "deleted", "a field of version 2"]])
    assert link.decode_batch(longer) == [link.Ended("t", 5, "deleted")]


@pytest.mark.parametrize("junk", [b"", b"\xc1", msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode([[99, 1]])])
def test_anything_else_is_refused(junk: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        link.decode_batch(junk)
