"""Behind a proxy that shares one upstream connection nobody gets another's answer; needs Go or nginx, `make attack`."""

import asyncio
import os

import pytest

from tests.attack.proxies import PROXIES, missing
from tests.attack.served import dev
from tests.attack.smuggling import prepare, run

ANSWERS = 2_000


@pytest.mark.skipif("HEADGATE_ATTACK_S" not in os.environ, reason="make attack runs it")
@pytest.mark.parametrize("name", PROXIES)
def test_no_answer_of_another_behind_a_shared_connection(name: str) -> None:
    if missing(name):
        pytest.skip(f"{name} is not on this machine")
    with dev() as served, PROXIES[name](served.port) as front:
        asyncio.run(prepare(served.port))
        count = asyncio.run(run(front, ANSWERS, smuggling=True))
    assert count.answers >= ANSWERS and count.offered > 0
    assert count.foreign == 0, count
