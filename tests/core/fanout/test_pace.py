"""The bounds of a slice."""

import pytest

from headgate.core.fanout.pace import DEFAULT_PACE, known_heat


def test_a_slice_and_the_block_that_passes_it_stay_below_5_ms() -> None:
    pace = DEFAULT_PACE
    write_s = pace.slice_s / pace.plain_sockets  # what a write takes where `slice_s` is `plain_sockets` of them
    assert pace.slice_s + pace.block_sockets * write_s < 0.005
    assert pace.block_sockets <= pace.plain_sockets <= pace.slice_sockets


@pytest.mark.parametrize(("heat", "known"), [("paced", "paced"), ("inbox", "inbox"), ("", "direct"), ("x", "direct")])
def test_a_heat_that_is_not_known_is_direct(heat: str, known: str) -> None:
    assert known_heat(heat) == known
