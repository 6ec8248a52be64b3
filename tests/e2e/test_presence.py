"""Presence with real processes: through churn, a frozen gateway, the death of the owner and of a gateway, every list
equals the truth within 15 seconds."""

import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, shards_of, token, until
from tests.presence_room import Crowd, listed_by

TOPIC = "room"
USERS = 150
WITHIN_S = 15.0


async def test_every_list_equals_the_truth_after_each_fault(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=3)
    await deployment.start()
    crowd = Crowd([f"127.0.0.1:{role.port}" for role in deployment.gateways], TOPIC, USERS, token)
    took: dict[str, float] = {}
    async with Publisher(deployment.ingests[0].url, token("root", admin=True, service=True)) as root:
        await root.create(TOPIC, settings={"presence": "list"})

        async def equal(what: str, without: frozenset[int] = frozenset()) -> None:
            wrong: list[list[str]] = [[]]

            async def is_true() -> bool:
                try:
                    wrong[0] = crowd.differences(await listed_by(get, TOPIC), without)
                except LookupError:  # no owner at the moment
                    return False
                return not wrong[0]

            begin = time.monotonic()
            try:
                await until(what, is_true, WITHIN_S, 0.2)
            except AssertionError as error:
                raise AssertionError(f"{error}: {wrong[0][:8]}") from None
            took[what] = time.monotonic() - begin

        async def get(path: str) -> dict[str, Any]:
            answer = await root.call("GET", path)
            if answer.status != 200:
                raise LookupError(answer.status)
            found: dict[str, Any] = answer.body
            return found

        try:
            await crowd.watch()
            await crowd.fill()
            await crowd.churn(30, 5, (0, 1, 2))
            await equal("churn")
            deployment.gateways[1].signal(signal.SIGSTOP)
            await crowd.churn(30, 3, (0, 2))
            await equal("gateway frozen", frozenset({1}))
            deployment.gateways[1].signal(signal.SIGCONT)
            await crowd.churn(30, 2, (0, 1, 2))
            await equal("gateway back")
            owner = max(deployment.dispatchers, key=lambda role: len(shards_of(role)))
            owner.kill9()
            await until("another owner answers", lambda: _answers(get), 40)
            await equal("owner killed")
            deployment.gateways[2].kill9()
            crowd.lose(2)
            await crowd.churn(30, 2, (0, 1))
            await equal("gateway killed", frozenset({2}))
        finally:
            await crowd.close()
    seconds = ", ".join(f"{what} {took[what]:.1f} s" for what in took)
    figures.say(f"presence of {USERS} users over 3 gateways, every list equal to the truth after: {seconds}")


async def _answers(get: Callable[[str], Awaitable[dict[str, Any]]]) -> bool:
    try:
        await listed_by(get, TOPIC)
    except LookupError:
        return False
    return True
