"""Link messages about inboxes as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire import link_inbox as inbox
from headgate.core.wire.rights import Caller

TOPIC = inbox.InboxTopic("t", 7, "inbox", 9, 4, 3, 5)
MISSED = inbox.MissedTopic("t", 7, 4, 1_000)


@pytest.mark.parametrize(
    "message",
    [
        inbox.AskInbox(1, "ann", "phone", "a", 100),
        inbox.AskInbox(1, "ann", "phone", "a", 100, Caller("ann", subscribe=("t*",), only=True)),
        inbox.InboxAnswer(1, [TOPIC]),
        inbox.AskMissedTopics(2, "ann", "phone", 1_000, "t"),
        inbox.MissedTopics(2, [MISSED], True),
        inbox.AskMissed(3, 1, Caller("ann"), [MISSED], 10),
        inbox.Missed(3, [inbox.MissedMessages("t", 1_000, [b"{}"])], False),
        inbox.ResolveMark(4, "t", Caller("ann"), 9, b"i"),
        inbox.ResolvedMark(4, "t", 7, 9, 8),
        inbox.MoveMarks(5, 1, [inbox.ReadMark("ann", "t", 7, 9, 8)]),
        inbox.MarksMoved(5),
        inbox.ReadStored("t", 7, "ann", 9),
        inbox.ReadReceipt("t", 7, "ann", 9, ["ben"]),
        inbox.UserHints([inbox.UserHint("ann", [inbox.HintTopic("t", 9, 5)])]),
        inbox.UserRead("ann", "t", 9, 0),
        inbox.TopicHeat("t", 7, "paced"),
    ],
)
def test_each_message_comes_back_as_it_was(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_what_an_ingest_or_gateway_sends_is_kept_from_a_dispatcher_of_version_1() -> None:
    for kind in (inbox.AskInbox, inbox.AskMissedTopics, inbox.AskMissed, inbox.ResolveMark, inbox.MoveMarks):
        assert kind in link.SinceVersion2.__args__
    assert inbox.ReadStored in link.SinceVersion2.__args__
