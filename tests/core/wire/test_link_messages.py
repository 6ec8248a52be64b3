"""Link messages about single messages as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_messages import Amended, AskMessage, MessageAnswer, MessageVersion
from headgate.core.wire.rights import Caller

ANN = Caller("ann", publish=("a*",))


@pytest.mark.parametrize(
    "message",
    [
        AskMessage(1, 2, "", ANN, bytes(16), "react", "+1"),
        AskMessage(1, 2, "t", ANN, bytes(16), "read", versions=True),
        MessageAnswer(1, "t", 5, 7, 7 << 10, 2, False, True, False, 3, b"{}", [MessageVersion(1, b"1", 0)]),
        Amended("t", 5, 7, b"{}"),
        Amended("t", 5, 7, b"", True),
    ],
)
def test_a_message_survives_the_way_over_a_link(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_a_question_about_a_message_needs_the_second_version_of_a_link() -> None:
    assert isinstance(AskMessage(1, 2, "t", ANN, bytes(16), "read"), link.SinceVersion2)
