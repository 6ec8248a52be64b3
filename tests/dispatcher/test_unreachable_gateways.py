"""Gateways that cannot be reached: lost and not back, or taking nothing; said once; forgotten at a bound."""

from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from dispatcher import unreachable_gateways as module
from dispatcher.unreachable_gateways import AWAY_S, CONGESTED_S, FORGET_S, UnreachableGateways


class Bed:
    def __init__(self) -> None:
        self.seconds = 100.0
        self.peers: list[Any] = []
        self.gateways = UnreachableGateways(self.peers, self)

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return 0

    def link(self, name: str, *, is_gateway: bool = True) -> Any:
        peer = SimpleNamespace(name=name, is_gateway=is_gateway, congested=False, open=True)
        self.peers.append(peer)
        self.gateways.linked(name)
        return peer

    def end(self, peer: Any, *, has_left: bool = False) -> None:
        self.peers.remove(peer)
        self.gateways.ended(peer.name, has_left=has_left)

    def later(self, seconds: float) -> list[str]:
        """Looks once a second; returns the lines of the log."""
        with capture_logs() as lines:
            for _ in range(round(seconds)):
                self.seconds += 1
                self.gateways.look()
        return [f"{line['event']}: {line['gateway']}" for line in lines]


def test_a_lost_gateway_counts_after_a_while_is_said_once_and_is_forgotten_or_back() -> None:
    bed = Bed()
    first, second = bed.link("g1"), bed.link("g2")
    bed.end(first)
    bed.end(second)
    assert (bed.later(AWAY_S - 1), bed.gateways.count()) == ([], 0), "it has the time to come back"
    assert bed.later(60) == ["a gateway cannot be reached: g1", "a gateway cannot be reached: g2"]
    assert bed.gateways.count() == 2
    bed.link("g1")
    assert (bed.gateways.count(), bed.later(5)) == (1, ["a gateway can be reached again, or is forgotten: g1"])
    bed.later(FORGET_S)
    assert bed.gateways.count() == 0


def test_one_that_stops_or_has_another_link_or_comes_back_in_time_does_not_count() -> None:
    bed = Bed()
    stops, again, quick = bed.link("g1"), bed.link("g2"), bed.link("g3")
    bed.link("g2")
    bed.end(stops, has_left=True)
    bed.end(again)
    bed.end(quick)
    bed.later(2)
    bed.link("g3")
    assert (bed.later(60), bed.gateways.count()) == ([], 0)


def test_a_gateway_that_takes_nothing_for_long_counts_and_an_ingest_does_not() -> None:
    bed = Bed()
    gateway, ingest = bed.link("g1"), bed.link("i1", is_gateway=False)
    gateway.congested = ingest.congested = True
    bed.later(CONGESTED_S)
    assert bed.gateways.count() == 0
    assert bed.later(2) == ["a gateway cannot be reached: g1"]
    gateway.congested = False
    bed.later(1)
    assert bed.gateways.count() == 0


def test_only_so_many_are_remembered(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_LOST", 3)
    bed = Bed()
    for n in range(5):
        bed.end(bed.link(f"g{n}"))
        bed.seconds += 1
    bed.later(AWAY_S)
    assert bed.gateways.names() == {"g2", "g3", "g4"}
