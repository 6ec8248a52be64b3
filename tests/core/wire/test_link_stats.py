"""The messages about statistics survive the wire, and an old dispatcher gets none of them."""

import pytest

from headgate.core.wire import link_stats
from headgate.core.wire.link import Message, Request, SinceVersion2
from headgate.core.wire.linkcodec import decode_batch, encode_batch
from headgate.core.wire.rights import Caller

QUESTIONS = ("AskStats", "FlushTopic", "AskTop")
STATS = link_stats.TopicStats(1, 2, 3, 4, 5, 6, 7, 8, 9)
MESSAGES: list[Message] = [
    link_stats.DeliveryReport(1, [link_stats.TopicDelivered("t", 7, 1, 2, 3, 4)]),
    link_stats.PublishReport(1, [link_stats.TopicPublishes("t", 7, 1, 2)]),
    link_stats.Numbered([(1, 2), (3, 4)]),
    link_stats.Queued([link_stats.QueuedElsewhere("t", 7, 5)]),
    link_stats.AskStats(1, "t", Caller("ann")),
    link_stats.StatsAnswer(1, 7, STATS),
    link_stats.FlushTopic(1, "t", Caller("ann")),
    link_stats.TopicFlushed(1, 2),
    link_stats.ReleaseHeld("t", 7),
    link_stats.AskTop(1, 3),
    link_stats.TopAnswer(1, 10, link_stats.TopLists([link_stats.TopEntry("t", 9)], [link_stats.TopEntry("t", 9, 2)])),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_read_back_is_the_same(message: Message) -> None:
    assert decode_batch(encode_batch([message])) == [message]


def test_what_a_client_sends_is_of_version_2_and_questions_are_requests() -> None:
    for message in MESSAGES:
        kind = type(message).__name__
        is_sent = kind in ("DeliveryReport", "PublishReport", *QUESTIONS)
        assert isinstance(message, SinceVersion2) == is_sent, kind
        assert isinstance(message, Request) == (kind in QUESTIONS), kind
