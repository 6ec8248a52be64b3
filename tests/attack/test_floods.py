"""A stranger sends 10 MB/s of anything: nobody notices, memory stays, the culprit is cut; `make attack` runs it."""

import asyncio
import os

import pytest

from tests.attack.flood import KINDS, SECRET, run
from tests.attack.served import dev

SECONDS = 10.0
MB_PER_S = 10.0


@pytest.mark.skipif("HEADGATE_ATTACK_S" not in os.environ, reason="make attack runs it")
@pytest.mark.parametrize("name", KINDS)
def test_a_flood_of_a_stranger_is_cut_and_nobody_notices(name: str) -> None:
    with dev(HEADGATE_AUTH__MODE="jwt", HEADGATE_AUTH__SECRET=SECRET) as served:
        found = asyncio.run(run(served, KINDS[name], SECONDS, MB_PER_S))
    assert found.good(KINDS[name]), found
