"""Inboxes against their model, and the model against planted faults that it must catch.

HEADGATE_INBOX_EXAMPLES examples (30; each about 25 steps). By default they are the same in each run; with the variable
set they are new ones each time.
"""

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.inbox.faults import PLANTED
from tests.inbox.machine import InboxMachine

EXAMPLES: Final = int(os.environ.get("HEADGATE_INBOX_EXAMPLES", "30"))
IS_DEFAULT: Final = "HEADGATE_INBOX_EXAMPLES" not in os.environ
PLANTED_EXAMPLES: Final = 60
QUIET: Final = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def run(examples: int, phases: tuple[Phase, ...], *, fixed_seed: bool) -> None:
    run_state_machine_as_test(
        InboxMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=fixed_seed,
            database=None,
            phases=phases,
            suppress_health_check=QUIET,
            report_multiple_bugs=False,
        ),
    )


def test_every_inbox_is_what_the_model_says() -> None:
    run(EXAMPLES, (Phase.generate, Phase.shrink), fixed_seed=IS_DEFAULT)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_caught(name: str) -> None:
    planted, says = PLANTED[name]
    with planted(), pytest.raises(AssertionError, match=says):
        run(PLANTED_EXAMPLES, (Phase.generate,), fixed_seed=True)
