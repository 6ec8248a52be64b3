"""Link messages about dead letters as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_dead_letters import (
    AskDeadLetters,
    ChangeDeadLetter,
    DeadLetterChanged,
    DeadLettersAnswer,
    GivenUp,
    GiveUp,
    LetterDone,
    LetterShown,
    Receiver,
    Redeliver,
    WantReplays,
)
from headgate.core.wire.rights import Caller

ANN = Receiver("ann", "phone")


@pytest.mark.parametrize(
    "message",
    [
        GiveUp(1, "t", 7, 5, ANN, 5, "max_attempts", "no database"),
        GivenUp(1),
        AskDeadLetters(1, 3, "t", Caller("ann"), "", 100),
        DeadLettersAnswer(1, [LetterShown("x", "t", 7, 5, "m", Receiver(group="w"), 5, "max_attempts", "e", 9)], True),
        ChangeDeadLetter(1, 3, "x", Caller("ann"), True),
        DeadLetterChanged(1, "t"),
        WantReplays("t", 7, ANN),
        Redeliver("t", 7, 5, ANN, "x", b"{}"),
        LetterDone("t", 7, "x"),
    ],
)
def test_each_message_comes_back_as_it_was(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_what_a_gateway_sends_is_kept_from_a_dispatcher_of_version_1() -> None:
    for kind in (GiveUp, AskDeadLetters, ChangeDeadLetter, WantReplays, LetterDone):
        assert kind in link.SinceVersion2.__args__
