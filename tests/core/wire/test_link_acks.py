"""Link messages about acknowledged subscriptions as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_acks import (
    AttachCursors,
    Cursor,
    CursorAnswer,
    CursorLease,
    CursorsMoved,
    MoveCursors,
    OpenCursor,
    ReleaseCursor,
    ReplaceSubscription,
    SubscriptionReplaced,
)

CURSOR = Cursor("ann", "phone", "t", 7, 5, [7, 9], [(6, 2)])
LEASE = CursorLease("ann", "phone", "t", "c-1", 1_000)


@pytest.mark.parametrize(
    "message",
    [
        OpenCursor(1, "ann", "phone", "t", LEASE),
        CursorAnswer(1, CURSOR, 7, 3),
        CursorAnswer(1, None),
        MoveCursors(2, 3, [CURSOR, Cursor("bob", "default", "t", 7, 0)]),
        CursorsMoved(2),
        AttachCursors(3, True, True, [LEASE]),
        ReleaseCursor("ann", "phone", "t", "c-1"),
        ReplaceSubscription(4, LEASE),
        SubscriptionReplaced(4, CURSOR),
    ],
)
def test_each_message_comes_back_as_it_was(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_what_a_gateway_sends_is_kept_from_a_dispatcher_of_version_1() -> None:
    for kind in (OpenCursor, MoveCursors, AttachCursors, ReleaseCursor):
        assert kind in link.SinceVersion2.__args__
