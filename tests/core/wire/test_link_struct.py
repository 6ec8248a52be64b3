"""What every link message keeps: an array with its tag, to which a newer version may append."""

import msgspec

from headgate.core.wire.link_struct import LinkStruct


class Old(LinkStruct, tag=1):
    req: int


class New(LinkStruct, tag=1):
    req: int
    more: str = "default"


def test_a_newer_field_is_passed_over_and_a_missing_one_has_its_default() -> None:
    encode = msgspec.msgpack.encode
    assert msgspec.msgpack.decode(encode(New(7, "x")), type=Old) == Old(7)
    assert msgspec.msgpack.decode(encode(Old(7)), type=New) == New(7, "default")
    assert msgspec.msgpack.decode(encode(New(7, "x"))) == [1, 7, "x"]
