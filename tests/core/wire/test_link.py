"""The link: what every version must keep."""

import msgspec
import pytest

from headgate.core.wire import link
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.link_ephemeral import Relay


def info(settings: dict[str, str]) -> TopicInfo:
    return TopicInfo("t", 1, 2, "n", "PUBLIC", "ana", 3, 4, 5, "direct", dict(settings))


def test_tags_are_unique() -> None:
    kinds = link.Message.__args__
    tags = [k.__struct_config__.tag for k in kinds]
    assert len(set(tags)) == len(tags)


def test_every_request_has_a_number_and_its_answer_repeats_it() -> None:
    for kind in (*link.Request.__args__, *link.Answer.__args__):
        assert kind.__struct_fields__[0] == "req", kind.__name__


def test_a_field_of_a_newer_version_is_ignored_and_one_of_an_older_has_its_default() -> None:
    decode = msgspec.msgpack.Decoder(link.Message).decode
    newer = msgspec.msgpack.encode([40, 7, "t", 1, b"tail", True, False, b"", "a field of a later version"])
    older = msgspec.msgpack.encode([40, 7, "t", 1, b"tail"])
    assert decode(newer) == Relay(7, "t", 1, b"tail", True)
    assert decode(older) == Relay(7, "t", 1, b"tail", False)


@pytest.mark.parametrize(
    ("settings", "profile", "is_ephemeral"),
    [({"profile": "ephemeral"}, "ephemeral", True), ({"profile": "durable"}, "durable", False), ({}, "durable", False)],
)
def test_the_profile_of_a_topic(settings: dict[str, str], profile: str, is_ephemeral: bool) -> None:
    assert (info(settings).profile, info(settings).is_ephemeral) == (profile, is_ephemeral)


def test_a_topic_is_an_array_without_its_profile() -> None:
    text = msgspec.msgpack.decode(msgspec.msgpack.encode(info({"profile": "durable"})))
    assert text == ["t", 1, 2, "n", "PUBLIC", "ana", 3, 4, 5, "direct", {"profile": "durable"}, 0]
