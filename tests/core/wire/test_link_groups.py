"""Link messages about consumer groups as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_groups import (
    GroupAck,
    GroupAcked,
    GroupJoined,
    GroupMessages,
    GroupNack,
    JoinGroup,
    LeaveGroup,
    group_user,
)
from headgate.core.wire.rights import Caller


@pytest.mark.parametrize(
    "message",
    [
        link.AskSubscribe(1, "t", Caller("ann"), group="w", member="c"),
        JoinGroup(1, "t", 7, "w", "c", [3, 5], [4], 2),
        GroupJoined(1),
        GroupMessages("t", 7, "w", "c", [3, 5], [1, 2], [b"{}", b"{}"], 1, (1, 2), 5),
        GroupMessages("t", 7, "w", "c", [], [], [], is_empty=True),
        GroupAck(2, "t", 7, "w", "c", [3, 5], True),
        GroupAcked(2),
        GroupNack(3, "t", 7, "w", "c", 3, "down"),
        LeaveGroup("t", 7, "w", "c"),
    ],
)
def test_each_message_comes_back_as_it_was(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_what_a_gateway_sends_is_kept_from_a_dispatcher_of_version_1() -> None:
    for kind in (JoinGroup, GroupAck, GroupNack, LeaveGroup):
        assert kind in link.SinceVersion2.__args__


def test_the_cursor_of_a_group_is_of_no_user() -> None:
    assert not group_user("w")[0].isprintable()
