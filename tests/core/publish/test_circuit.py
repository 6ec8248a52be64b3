"""headgate.core.publish.circuit: when appends pass, when a probe is sent, and what closes it."""

import pytest

from headgate.core.publish.circuit import (
    OPEN_AFTER_S,
    PROBE_EVERY_S,
    TRANSITIONS,
    WAVE_S,
    Circuit,
    CircuitEvent,
    CircuitState,
)
from headgate.core.wire.errors import IllegalTransition


def opened() -> Circuit:
    """A circuit that opened at 10 + OPEN_AFTER_S and whose appends have ended."""
    circuit = Circuit()
    wave = circuit.began(10.0)
    circuit.tick(10.1 + OPEN_AFTER_S)
    circuit.ended(wave)
    return circuit


def test_a_new_circuit_passes_and_rests() -> None:
    circuit = Circuit()
    assert circuit.passes
    assert circuit.is_resting
    assert not circuit.tick(1e9)
    assert circuit.passes


def test_answered_appends_never_open_it() -> None:
    circuit = Circuit()
    for now in range(100):
        circuit.ended(circuit.began(now))
        assert not circuit.tick(now + 0.9)
    assert circuit.passes
    assert circuit.is_resting


def test_it_opens_when_the_oldest_append_is_overdue_and_not_before() -> None:
    circuit = Circuit()
    circuit.began(10.0)
    circuit.began(11.0)
    circuit.tick(10.0 + OPEN_AFTER_S)
    assert circuit.passes
    circuit.tick(10.01 + OPEN_AFTER_S)
    assert not circuit.passes


def test_a_younger_append_that_is_answered_does_not_hide_the_oldest() -> None:
    circuit = Circuit()
    circuit.began(10.0)
    circuit.ended(circuit.began(11.0))
    circuit.tick(10.1 + OPEN_AFTER_S)
    assert circuit.state is CircuitState.DRAINING


def test_time_in_which_the_process_was_late_is_no_silence() -> None:
    circuit = Circuit()
    circuit.began(10.0)
    circuit.began(12.9)
    circuit.excuse(2.9, 13.0)  # a look that was due at 10.1
    circuit.tick(13.0)
    circuit.tick(12.9 + OPEN_AFTER_S)
    assert circuit.passes
    circuit.ended(circuit.began(12.91))
    circuit.tick(12.91 + OPEN_AFTER_S)
    assert not circuit.passes, "the other is silent since 12.9 at the latest, and no longer excused"


def test_an_append_behind_a_late_look_does_not_join_an_old_wave() -> None:
    circuit = Circuit()
    wave = circuit.began(10.0)
    circuit.excuse(2.9, 13.0)
    assert circuit.began(13.0) is not wave


def test_appends_close_together_are_one_wave() -> None:
    circuit = Circuit()
    wave = circuit.began(10.0)
    assert circuit.began(10.0 + WAVE_S / 2) is wave
    assert circuit.began(10.0 + WAVE_S * 2) is not wave


def test_no_probe_while_appends_are_outstanding() -> None:
    circuit = Circuit()
    wave = circuit.began(10.0)
    assert not circuit.tick(13.0)
    assert not circuit.tick(15.0)
    circuit.ended(wave)
    assert circuit.tick(15.1)
    assert circuit.state is CircuitState.PROBING


def test_one_probe_at_a_time_and_one_a_second() -> None:
    circuit = opened()
    assert circuit.tick(20.0)
    assert not circuit.tick(25.0), "one is outstanding"
    circuit.probed(acked=False)
    assert circuit.tick(25.0)
    circuit.probed(acked=False)
    assert not circuit.tick(25.0 + PROBE_EVERY_S - 0.01)
    assert circuit.tick(25.0 + PROBE_EVERY_S)


def test_only_the_probes_ack_closes_it() -> None:
    circuit = opened()
    assert not circuit.passes
    circuit.tick(20.0)
    circuit.probed(acked=False)
    assert not circuit.passes
    circuit.tick(21.0)
    circuit.probed(acked=True)
    assert circuit.passes
    assert circuit.is_resting


def test_it_opens_again() -> None:
    circuit = opened()
    circuit.tick(20.0)
    circuit.probed(acked=True)
    circuit.began(30.0)
    circuit.tick(33.0)
    assert not circuit.passes


@pytest.mark.parametrize("acked", [True, False])
def test_an_answer_without_a_probe_is_illegal_and_changes_nothing(acked: bool) -> None:
    circuit = opened()
    with pytest.raises(IllegalTransition, match="idle"):
        circuit.probed(acked=acked)
    assert circuit.state is CircuitState.IDLE


def test_every_state_can_be_left_and_every_event_has_a_place() -> None:
    assert {state for state, row in TRANSITIONS.items() if row} == set(CircuitState)
    assert {event for row in TRANSITIONS.values() for event in row} == set(CircuitEvent)
