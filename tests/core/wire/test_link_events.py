"""Link messages about lifecycle events as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_events import EventsHappened, HappenedEvent, WatchEvents


@pytest.mark.parametrize(
    "message",
    [
        WatchEvents(3, EventFilter(("orders",), ("failed",))),
        WatchEvents(3),
        EventsHappened(3, [HappenedEvent("orders", "failed", b"{}")], 7),
    ],
)
def test_each_message_comes_back_as_it_was(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]


def test_they_are_kept_from_a_dispatcher_of_version_1() -> None:
    for kind in (WatchEvents, EventsHappened):
        assert kind in link.SinceVersion2.__args__
