"""Who hosts what, and what goes to each gateway."""

from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.routes import Routes
from headgate.core.wire.link import Messages


def deliver(topic: str, seq: int) -> Deliver:
    return Deliver(topic, 9, seq, 1000 + seq, b"i" * 16, 0, b"frame-%d" % seq, False)


def test_a_message_goes_once_to_each_gateway_that_hosts_its_topic() -> None:
    routes: Routes[str] = Routes()
    routes.add("g1", "a", 9, 0, count=50)
    routes.add("g2", "a", 9, 0)
    routes.add("g2", "b", 9, 0)
    for seq in (1, 2):
        routes.push(deliver("a", seq))
    routes.push(deliver("b", 1))
    routes.push(deliver("c", 1))
    assert routes.take() == [
        ("g1", Messages("a", 9, 1, [1001, 1002], [b"frame-1", b"frame-2"])),
        ("g2", Messages("a", 9, 1, [1001, 1002], [b"frame-1", b"frame-2"])),
        ("g2", Messages("b", 9, 1, [1001], [b"frame-1"])),
    ]
    assert routes.take() == []


def test_a_route_behind_gets_nothing_live_and_one_in_step_nothing_twice() -> None:
    routes: Routes[str] = Routes()
    behind = routes.add("g1", "a", 9, 0)
    behind.behind = True
    routes.add("g2", "a", 9, 5)
    routes.push(deliver("a", 5))
    routes.push(deliver("a", 6))
    assert [(g, m.seq) for g, m in routes.take()] == [("g2", 6)]
    assert behind.sent == 0


def test_a_route_that_is_there_takes_more_subscriptions_and_keeps_its_place() -> None:
    routes: Routes[str] = Routes()
    first = routes.add("g1", "a", 9, 5, count=2)
    assert routes.add("g1", "a", 9, 8, count=3) is first
    assert (routes.count("a"), first.sent) == (5, 5)


def test_counts_rise_and_fall_and_the_last_leave_ends_the_route() -> None:
    routes: Routes[str] = Routes()
    routes.add("g1", "a", 9, 0, count=2)
    routes.add("g2", "a", 9, 0)
    assert routes.count("a") == 3
    routes.leave("g1", "a", 8, 2)
    assert routes.count("a") == 3
    routes.leave("g1", "a", 9, 2)
    assert (routes.count("a"), routes.get("g1", "a")) == (1, None)
    routes.leave("g1", "a", 9, 1)
    routes.drop_gateway("g2")
    assert (routes.count("a"), list(routes.hosts("a"))) == (0, [])


def test_a_dropped_topic_forgets_its_open_batches() -> None:
    routes: Routes[str] = Routes()
    routes.add("g1", "a", 9, 0)
    routes.push(deliver("a", 1))
    assert routes.drop_topic("a") == ["g1"]
    assert routes.take() == []
    assert routes.get("g1", "a") is None


def test_one_route_can_be_dropped_alone_with_its_open_batch() -> None:
    routes: Routes[str] = Routes()
    for gateway in ("g1", "g2"):
        routes.add(gateway, "a", 9, 0)
    routes.push(deliver("a", 1))
    routes.drop("g1", "a")
    routes.drop("g1", "b")
    assert [gateway for gateway, _ in routes.take()] == ["g2"]
    assert (routes.get("g1", "a"), routes.count("a")) == (None, 1)


def test_the_routes_of_a_topic_are_its_own_and_nothing_is_kept_of_one_that_nobody_hosts() -> None:
    routes: Routes[str] = Routes()
    one, two = routes.add("g1", "a", 9, 0), routes.add("g2", "a", 9, 0)
    other = routes.add("g1", "b", 9, 0)
    assert list(routes.hosts("a")) == [one, two] and list(routes.hosts("b")) == [other]
    routes.drop_gateway("g3")
    routes.drop_gateway("g1")
    assert list(routes.hosts("a")) == [two] and list(routes.hosts("b")) == []
    assert routes.drop_topic("a") == ["g2"] and routes.drop_topic("a") == []
    assert not routes._topics
