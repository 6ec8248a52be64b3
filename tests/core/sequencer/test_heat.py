"""Direct, paced and inbox: the table, the dwell, the hint of a new owner, and that cold topics cost nothing."""

import random

import pytest

from headgate.core.sequencer.heat import BECOMES, Band, Heat, HeatBounds, Heats, Switch, band_of

USUAL = HeatBounds(1_000, 10_000, 8_000)
DWELL = 10.0


class Scene:
    """One topic. `at` counts it; what is due is counted on the way, as the shell does."""

    def __init__(self, bounds: HeatBounds = USUAL, hint: str = "") -> None:
        self.heats = Heats(DWELL, 0.0)
        self.bounds, self.hint = bounds, hint
        self.count = 0
        self.switches: list[tuple[float, Heat]] = []

    def at(self, now: float, count: int) -> Heat:
        while (due := self.heats.next_due) is not None and due < now:
            self._due(due)
        self.count = count
        self._counted(now)
        self._due(now)
        return self.heats.get("t", self.hint)

    def _due(self, now: float) -> None:
        for topic_id in self.heats.due(now):
            assert topic_id == "t"
            self._counted(now)

    def _counted(self, now: float) -> None:
        switch = self.heats.counted("t", self.count, self.bounds, now, self.hint)
        if switch is not None:
            assert switch.count == self.count and switch.old is not switch.new
            self.switches.append((now, switch.new))

    @property
    def modes(self) -> list[float]:
        """When it went to the inbox or back."""
        heats = [Heat.DIRECT, *(heat for _, heat in self.switches)]
        pairs = zip(heats, heats[1:], self.switches, strict=False)
        return [at for old, new, (at, _) in pairs if Heat.INBOX in (old, new)]


def test_the_table_says_every_heat_in_every_band_and_only_direct_neighbours_wait() -> None:
    assert set(BECOMES) == {(heat, band) for heat in Heat for band in Band}
    for (heat, band), becomes in BECOMES.items():
        assert BECOMES[becomes, band] is becomes, "one step, whatever comes next"
        assert heat is Heat.INBOX or becomes is not Heat.INBOX or band is Band.HOT


@pytest.mark.parametrize(
    ("count", "band"),
    [
        (999, Band.LOW),
        (1_000, Band.HIGH),
        (7_999, Band.HIGH),
        (8_000, Band.COOLING_HIGH),
        (9_999, Band.COOLING_HIGH),
        (10_000, Band.HOT),
    ],
)
def test_each_bound_is_the_first_of_its_band(count: int, band: Band) -> None:
    assert band_of(count, USUAL) is band


def test_up_and_down_again_are_two_switches_of_the_mode() -> None:
    scene = Scene()
    assert scene.at(20, 500) is Heat.DIRECT
    assert scene.at(21, 1_000) is Heat.PACED
    assert scene.at(22, 9_999) is Heat.PACED
    assert scene.at(23, 10_000) is Heat.INBOX, "no dwell is running: it never was in the inbox"
    assert scene.at(40, 12_000) is Heat.INBOX
    assert scene.at(50, 8_000) is Heat.INBOX, "hysteresis"
    assert scene.at(51, 7_999) is Heat.PACED
    assert scene.at(52, 999) is Heat.PACED
    assert scene.at(61, 999) is Heat.DIRECT
    assert scene.modes == [23, 51]


def test_a_switch_back_waits_for_the_dwell_and_then_comes_by_itself() -> None:
    scene = Scene()
    scene.at(20, 10_000)
    assert scene.at(21, 0) is Heat.INBOX
    assert scene.heats.next_due == 30
    assert scene.at(29.9, 0) is Heat.INBOX
    assert scene.at(30, 0) is Heat.DIRECT
    assert scene.at(31, 10_000) is Heat.PACED, "at once: that only spares others"
    assert scene.at(40, 10_000) is Heat.INBOX


def test_a_count_that_flaps_costs_at_most_one_mode_switch_a_dwell() -> None:
    rng = random.Random(7)
    scene = Scene()
    for step in range(4_000):
        scene.at(100 + step / 8, rng.choice((0, 999, 1_000, 7_999, 8_000, 9_999, 10_000, 20_000)))
    gaps = [later - earlier for earlier, later in zip(scene.modes, scene.modes[1:], strict=False)]
    assert len(gaps) > 20 and min(gaps) >= DWELL
    assert len(scene.switches) <= 2 * 500 / DWELL + 2


def test_a_new_owner_begins_with_the_hint_and_waits_for_the_dwell() -> None:
    scene = Scene(hint="inbox")
    assert scene.heats.get("t", "inbox") is Heat.INBOX, "before anybody is counted"
    assert scene.at(1, 0) is Heat.INBOX, "the gateways have not announced their subscriptions yet"
    assert scene.at(9.9, 0) is Heat.INBOX
    assert scene.at(10, 0) is Heat.DIRECT
    kept = Scene(hint="inbox")
    kept.at(1, 0)
    assert kept.at(2, 9_000) is Heat.INBOX and kept.at(30, 9_000) is Heat.INBOX and not kept.switches
    fresh = Scene()
    assert fresh.at(1, 20_000) is Heat.PACED, "paced at once, the inbox after the dwell"
    assert fresh.at(9.9, 20_000) is Heat.PACED
    assert fresh.at(10, 20_000) is Heat.INBOX


def test_a_hint_that_is_not_known_is_direct() -> None:
    assert Heats(DWELL, 0.0).get("t", "frozen") is Heat.DIRECT


def test_paced_above_the_inbox_is_never_reached() -> None:
    scene = Scene(HeatBounds(50, 20, 10))
    assert [scene.at(20, 19), scene.at(21, 20), scene.at(40, 60), scene.at(60, 9)] == [
        *(Heat.DIRECT, Heat.INBOX, Heat.INBOX, Heat.DIRECT),
    ]


def test_settings_that_change_are_obeyed_with_the_next_count() -> None:
    scene = Scene()
    scene.at(20, 500)
    scene.bounds = HeatBounds(100, 400, 300)
    assert scene.at(21, 500) is Heat.INBOX
    scene.bounds = USUAL
    assert scene.at(40, 500) is Heat.DIRECT


def test_cold_topics_have_no_entry_and_one_that_cooled_down_loses_it() -> None:
    heats = Heats(DWELL, 0.0)
    for n in range(1_000):
        assert heats.counted(f"t{n}", 999, USUAL, 1.0) is None
    assert heats.warm() == [] and heats.next_due is None
    assert heats.counted("t0", 1_000, USUAL, 1.0) == Switch("t0", Heat.DIRECT, Heat.PACED, 1_000)
    assert (heats.warm(), heats.number_of(Heat.PACED), heats.number_of(Heat.INBOX)) == (["t0"], 1, 0)
    heats.counted("t0", 0, USUAL, 12.0)
    assert heats.warm() == ["t0"] and list(heats.due(22.0)) == ["t0"]
    heats.counted("t0", 0, USUAL, 22.0)
    assert heats.warm() == []


def test_the_heap_stays_small_and_a_forgotten_topic_is_not_due() -> None:
    heats = Heats(DWELL, 0.0)
    for n in range(500):
        heats.counted(f"t{n}", 1_000, USUAL, 1.0)
        heats.forget(f"t{n}")
    assert len(heats._due) <= 65
    assert list(heats.due(100.0)) == []
    heats.counted("a", 20_000, USUAL, 50.0)
    heats.look_again("a", 55.0)
    heats.look_again("nobody", 55.0)
    assert heats.next_due == 55.0 and list(heats.due(55.0)) == ["a"] and list(heats.due(60.0)) == []
