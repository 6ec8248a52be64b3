"""ingest.controls: a change is handed over only to an owner that is there, and its outcome is never guessed."""

import pytest

from headgate.core.wire.control import CreateTopic
from headgate.core.wire.errors import Refusal
from headgate.core.wire.verdict import Code
from headgate.runtime.ports import LogUnavailable
from headgate.runtime.testing.faulty_log import Reach
from tests.ingest.parts import ANA, Parts, play

CREATION = CreateTopic("t", "t", "PUBLIC", "ana")


def test_a_change_has_its_verdict_and_its_time_in_the_log() -> None:
    async def scene(parts: Parts) -> None:
        first = await parts.controls.change("t", CREATION, 0, parts.controls.id_of("create", "t", ANA, None))
        second = await parts.controls.change("t", CREATION, 0, parts.controls.id_of("create", "t", ANA, None))
        assert (first.verdict.code, second.verdict.code) == (Code.CREATED, Code.EXISTS)
        assert first.verdict.epoch == second.verdict.epoch > 0
        assert first.ts >= 1_700_000_000_000
        assert parts.metrics.records == 2

    play(scene)


def test_the_same_key_makes_the_same_record() -> None:
    async def scene(parts: Parts) -> None:
        ids = [parts.controls.id_of(op, "t", ANA, key) for op in ("create", "delete") for key in ("k", "k", None, None)]
        assert ids[0] == ids[1] and ids[4] == ids[5]
        assert len(set(ids)) == 6

    play(scene)


def test_without_an_owner_nothing_is_handed_over() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.up = False
        with pytest.raises(Refusal, match="not_ready"):
            await parts.controls.change("t", CREATION, 0, bytes(16))
        parts.directory.up = True
        parts.owner.catch_up()
        assert {one.code for verdicts in parts.owner.verdicts.values() for one in verdicts} == {Code.CONFIGURED}

    play(scene)


@pytest.mark.parametrize(("reach", "code"), [(Reach.REFUSED, "log_unavailable"), (Reach.SILENT, "outcome_unknown")])
def test_a_log_that_is_away(reach: Reach, code: str) -> None:
    async def scene(parts: Parts) -> None:
        parts.log.reach = reach
        with pytest.raises(Refusal, match=code):
            await parts.controls.change("t", CREATION, 0, bytes(16))
        assert len(parts.metrics.waited_in_vain) == (code == "outcome_unknown")

    play(scene)


def test_a_verdict_that_does_not_come_is_an_unknown_outcome_after_seven_seconds() -> None:
    async def scene(parts: Parts) -> None:
        parts.directory.mute = True
        started = parts.clock.now()
        with pytest.raises(Refusal, match="outcome_unknown") as caught:
            await parts.controls.change("t", CREATION, 0, bytes(16))
        assert parts.clock.now() - started == pytest.approx(7)
        assert caught.value.extra == {"topic_id": "t"}

    play(scene)


def test_an_open_circuit_refuses_at_once() -> None:
    async def scene(parts: Parts) -> None:
        parts.log.reach = Reach.SILENT
        with pytest.raises(Refusal, match="outcome_unknown"):
            await parts.controls.change("t", CREATION, 0, bytes(16))
        started = parts.clock.now()
        with pytest.raises(Refusal, match="log_unavailable"):
            await parts.controls.change("t", CREATION, 0, bytes(16))
        with pytest.raises(LogUnavailable):
            await parts.appender.append(parts.owners.shard_of("t"), b"t", b"x")
        assert parts.clock.now() == started

    play(scene)
