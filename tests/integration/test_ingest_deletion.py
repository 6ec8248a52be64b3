"""Topics deleted over HTTP: the owner decides, from the role that the actor has when the record is applied."""

from typing import Any

import pytest

from headgate.core.wire.link import AskVerdict
from ingest.controls import Controls
from tests.integration.ingest_twin import World, play, problem
from tests.integration.test_ingest_keys import hear, silence

T = "/api/v1/topics/t"
KEY: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}


@pytest.mark.parametrize(
    ("permissions", "status", "code"), [("PUBLIC", 403, "forbidden"), ("PRIVATE", 404, "topic_not_found")]
)
def test_an_admin_who_is_put_out_between_check_and_append_deletes_nothing(
    permissions: str, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions=permissions)
        await world.call("PUT", f"{T}/members/bo", json={"role": "admin"})
        decide = Controls.decide

        async def put_out_first(self: Any, *change: Any) -> Any:
            monkeypatch.setattr(Controls, "decide", decide)
            await world.call("DELETE", f"{T}/members/bo")
            return await decide(self, *change)

        monkeypatch.setattr(Controls, "decide", put_out_first)
        problem(await world.call("DELETE", T, world.token("bo"), **KEY), status, code)
        assert (await world.call("GET", T)).status_code == 200
        problem(await world.call("DELETE", T, world.token("bo"), **KEY), status, code)
        assert (await world.call("DELETE", T)).status_code == 204

    play(scene)


def test_a_repeat_of_a_deletion_whose_outcome_was_not_known_is_done_once_the_topic_is_gone() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        silence(world, AskVerdict)
        problem(await world.call("DELETE", T, **KEY), 504, "outcome_unknown")
        hear(world)
        for _ in range(2):
            assert (await world.call("DELETE", T, **KEY)).status_code == 204

    play(scene)


def test_a_repeat_that_is_refused_by_the_owner_is_not_said_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await world.call("PUT", f"{T}/members/bo", json={"role": "admin"})
        decide = Controls.decide

        async def put_out_first(self: Any, *change: Any) -> Any:
            monkeypatch.setattr(Controls, "decide", decide)
            await world.call("DELETE", f"{T}/members/bo")
            silence(world, AskVerdict)
            return await decide(self, *change)

        monkeypatch.setattr(Controls, "decide", put_out_first)
        problem(await world.call("DELETE", T, world.token("bo"), **KEY), 504, "outcome_unknown")
        hear(world)
        problem(await world.call("DELETE", T, world.token("bo"), **KEY), 404, "topic_not_found")
        assert (await world.call("GET", T)).status_code == 200

    play(scene)
