"""When the counters of a canary speak against an installation, and when they do not."""

import pytest

from headgate.cli.canary_verdict import faults

NOTHING = dict.fromkeys(("received", "late", "lost", "found", "repeated", "disordered", "skipped", "restarts"), 0)


def test_all_that_was_accepted_came_in_time() -> None:
    assert faults({"accepted": 100}, NOTHING | {"received": 100}) == []


@pytest.mark.parametrize(
    ("published", "counted", "words"),
    [
        ({"accepted": 0, "not_ready": 7}, {}, "none of 7 messages was accepted: not_ready 7"),
        ({}, {}, "none of 0 messages was accepted: nothing was sent"),
        ({"accepted": 1_000}, {"lost": 2, "found": 1}, "1 of 1000 messages lost"),
        ({"accepted": 1_000}, {"repeated": 1}, "1 messages repeated"),
        ({"accepted": 1_000}, {"disordered": 1}, "1 messages disordered"),
        ({"accepted": 989, "log_unavailable": 11}, {}, "11 of 1000 messages not accepted: accepted 989, log_unavail"),
        ({"accepted": 980}, {"skipped": 20}, "20 of 1000 messages not accepted"),
        ({"accepted": 1_000}, {"late": 11}, "11 of 1000 messages late"),
    ],
)
def test_each_fault_is_named(published: dict[str, int], counted: dict[str, int], words: str) -> None:
    (found,) = faults(published, NOTHING | counted)
    assert found.startswith(words)


@pytest.mark.parametrize(
    ("published", "counted"),
    [
        ({"accepted": 990, "unreachable": 10}, {}),
        ({"accepted": 1_000}, {"late": 10}),
        ({"accepted": 1_000}, {"lost": 1, "found": 1}),
    ],
)
def test_one_in_a_hundred_may_be_late_or_refused_and_what_is_found_is_not_lost(
    published: dict[str, int], counted: dict[str, int]
) -> None:
    assert faults(published, NOTHING | counted) == []
