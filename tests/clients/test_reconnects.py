"""The figures of reconnects, on planted lines."""

from tests.clients.reconnects import reconnects


def test_the_time_and_the_spread_are_of_those_who_lost_their_connection_in_the_span() -> None:
    states = [{"who": f"c{n}", "state": "waiting", "at": 1_000} for n in range(20)]
    states += [{"who": f"c{n}", "state": "open", "at": 1_000 + 100 * n} for n in range(20)]
    states += [{"who": "late", "state": "waiting", "at": 9_000}, {"who": "late", "state": "open", "at": 9_001}]
    assert reconnects(states, 500, 5_000) == (20, 1.9, 0.05)
    assert reconnects(states[:20], 500, 5_000).p95_s == float("inf")
    assert reconnects(states, 10_000, 11_000) == (0, 0.0, 0.0)
