"""Link messages about presence and typing as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_presence import (
    AskPresence,
    AttachPresence,
    PresenceAnswer,
    PresenceChanged,
    PresenceMoved,
    PresenceState,
    TopicUsers,
    Typed,
    Typing,
    TypingTaken,
    UserPresence,
)
from headgate.core.wire.rights import Caller

ANN = UserPresence("ann", 2, 5, True)
BOB = UserPresence("bob", 1, 6)


@pytest.mark.parametrize(
    "message",
    [
        AttachPresence(3, True, False, [TopicUsers("t", 7, [ANN, BOB], True)]),
        PresenceChanged(3, [TopicUsers("t", 7, [], False, True)]),
        PresenceState("t", 7, "list", 2, [ANN, BOB]),
        PresenceMoved("t", 7, 1, [ANN], ["bob"]),
        AskPresence(1, "t", Caller("ann"), "", 10),
        PresenceAnswer(1, 2, [ANN, BOB]),
        Typing(1, "t", 7, Caller("ann")),
        TypingTaken(1),
        Typed("t", 7, "ann"),
    ],
)
def test_each_message_comes_back_as_it_was(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_what_a_gateway_sends_is_kept_from_a_dispatcher_of_version_1() -> None:
    for kind in (AttachPresence, PresenceChanged, AskPresence, Typing):
        assert kind in link.SinceVersion2.__args__
