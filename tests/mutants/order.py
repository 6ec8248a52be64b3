"""A plugin of pytest for the runs of mutants: the tests of the changed module come first, so that most runs end early.

mutmut names the mutant of a run in the environment: `headgate.core.fanout.wheel.xǁWheelǁadd__mutmut_3`.
"""

import os
from typing import Final

import pytest

# They measure bytes, with a million entries or so, and take as long as all the others together.
UNUSED: Final = ("million", "memory", "no_chunk_too_large")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Called by pytest once the tests are found."""
    items[:] = [item for item in items if not any(word in item.name for word in UNUSED)]
    mirror = mirror_of(os.environ.get("MUTANT_UNDER_TEST", ""))
    items.sort(key=lambda item: item.path.name != mirror)


def mirror_of(mutant: str) -> str:
    """Returns the file name of the tests of a mutant's module; another text where `mutant` is none."""
    module, _, _ = mutant.rpartition(".")
    return f"test_{module.rpartition('.')[2]}.py"
