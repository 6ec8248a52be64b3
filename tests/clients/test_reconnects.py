"""The figures of reconnects, on planted lines."""

from tests.clients.reconnects import Reconnects, reconnects


def test_the_time_and_the_spread_are_of_those_who_lost_their_connection_in_the_span() -> None:
    lines = [{"on": "state", "who": f"c{n}", "state": "waiting", "at": 1_000} for n in range(20)]
    for n in range(20):
        lines.append({"on": "state", "who": f"c{n}", "state": "opening", "at": 1_000 + 100 * n})
        lines.append({"on": "subscribed", "who": f"c{n}", "at": 1_010 + 100 * n})
    lines += [{"on": "state", "who": "late", "state": "waiting", "at": 9_000}]
    lines += [{"on": "subscribed", "who": "late", "at": 9_001}, {"on": "subscribed", "who": "new", "at": 1_500}]
    found = reconnects(lines, 500, 5_000, 40)
    assert found == Reconnects(20, 2.41, 2.41, 0.025, 0.05)
    assert reconnects(lines[:20], 500, 5_000, 40).p95_s == float("inf")
    assert reconnects(lines, 10_000, 11_000, 40) == (0, 0.0, 0.0, 0.0, 0.0)


def test_a_window_of_100_ms_begins_anywhere() -> None:
    lines = [{"on": "state", "who": f"c{n}", "state": "waiting", "at": 0} for n in range(10)]
    lines += [{"on": "state", "who": f"c{n}", "state": "opening", "at": 60 + 10 * n} for n in range(10)]
    assert reconnects(lines, 0, 1_000, 20).share == 0.5
    lines[-1]["at"] = 160
    assert reconnects(lines, 0, 1_000, 20).share == 0.45
