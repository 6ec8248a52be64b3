"""Topics attached before the owner has read them."""

from dispatcher.arrivals import Arrivals
from headgate.core.wire.link import AttachTopic


def topic(count: int = 1) -> AttachTopic:
    return AttachTopic("t", 7, 0, count)


def test_an_attach_and_a_leave_before_the_topic_was_read_leave_nothing() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.expect("g", topic(), 10)
    assert arrivals.leave("g", "t", 7, 1)
    assert arrivals.due(11) == []
    assert not arrivals.leave("g", "t", 7, 1)


def test_what_is_left_of_the_count_is_attached_when_the_offset_was_applied() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.expect("g", topic(3), 10)
    arrivals.leave("g", "t", 7, 2)
    assert arrivals.due(10) == []
    assert [(g, t.count) for g, t in arrivals.due(11)] == [("g", 1)]
    assert arrivals.due(11) == []


def test_three_attaches_are_one_and_a_gateway_that_left_none() -> None:
    arrivals: Arrivals[str] = Arrivals()
    for _ in range(3):
        arrivals.left("g")  # a first chunk forgets what came before
        arrivals.expect("g", topic(), 10)
    arrivals.expect("h", topic(), 10)
    arrivals.left("h")
    assert [g for g, _ in arrivals.due(11)] == ["g"]
