"""ingest.message_updates: what a verdict means for the client, and what the record of a change says."""

from typing import Any

import pytest

from headgate.core.wire.control import LOGIC
from headgate.core.wire.envelope import decode
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import random_id
from headgate.core.wire.link_messages import MessageAnswer
from headgate.core.wire.message_changes import RedactMessage, decode_event
from headgate.core.wire.verdict import Code, Verdict
from ingest.audit import AuditLog
from ingest.controls import ControlOutcome
from ingest.keyed_operations import KeyedOperation
from ingest.message_updates import MessageUpdates, Target
from ingest.rates import RateLimits
from tests.ingest.parts import Parts, call, play

FRAME = b'{"type":"message","seq":4}'
TARGET = Target("t", random_id(b"t", bytes(12)))


class Scripted:
    """The owner's answers about one message, and the verdicts about its changes; each in turn."""

    def __init__(self, parts: Parts, *verdicts: Verdict, own: bool = True) -> None:
        self.verdicts = list(verdicts)
        self.refusals: list[Refusal | None] = []  # of the questions, in turn
        self.events: list[bytes] = []
        self.id_of, self.keyed = parts.controls.id_of, parts.controls.keyed
        self.own = own
        self.epoch = 0
        self.updates = MessageUpdates(
            access=parts.access,
            messages=self,  # type: ignore[arg-type]
            controls=self,  # type: ignore[arg-type]
            rates=parts.rates,
            audit=AuditLog(parts.clock),
            payload_bytes=80_000,
        )

    async def ask(self, *_: Any, **__: Any) -> MessageAnswer:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        return MessageAnswer(1, "t", self.epoch, 4, 99, 1, False, self.own, False, LOGIC, FRAME, [])

    async def decide_event(self, topic_id: str, event: bytes, keyed: KeyedOperation | None) -> ControlOutcome:
        self.keyed.add(keyed)
        self.events.append(event)
        return ControlOutcome(self.verdicts.pop(0), 1)


async def edit(scripted: Scripted, key: str | None = None, payload: str = "x") -> tuple[int, bytes]:
    body = b'{"payload":"%b","version":1}' % payload.encode()
    (frame, event_seq), _ = await scripted.updates.edit(call(key=key), TARGET, body)
    return event_seq, frame


def test_the_verdict_about_an_edit() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        scripted = Scripted(parts, Verdict(Code.CHANGED, 9), Verdict(Code.DUPLICATE, 8))
        assert await edit(scripted) == (9, FRAME)
        assert await edit(scripted, "k") == (8, FRAME)
        expected = {
            "outcome_unknown": Verdict(Code.DUPLICATE, 0),
            "version_conflict": Verdict(Code.CONFLICT, 7),
            "forbidden": Verdict(Code.FORBIDDEN),
            "immutable": Verdict(Code.IGNORED),
            "topic_not_found": Verdict(Code.STALE_EPOCH),
            "internal": Verdict(Code.DEAD),
        }
        for code, verdict in expected.items():
            scripted.verdicts = [verdict]
            with pytest.raises(Refusal) as caught:
                await edit(scripted, "k")
            assert caught.value.code == code
            assert ("version" in caught.value.extra) == (code == "version_conflict")

    play(scene)


def test_the_verdict_about_a_redaction_and_a_reaction_of_what_was_redacted_meanwhile() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        scripted = Scripted(parts, Verdict(Code.IGNORED), Verdict(Code.IGNORED))
        await scripted.updates.redact(call(), TARGET)
        with pytest.raises(Refusal, match="immutable"):
            await scripted.updates.react(call(), TARGET, "x", removed=False)

    play(scene)


@pytest.mark.parametrize("own", [True, False])
def test_the_record_of_a_redaction_says_whether_the_actor_published_the_message(own: bool) -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        scripted = Scripted(parts, Verdict(Code.CHANGED, 9), own=own)
        await scripted.updates.redact(call(), TARGET)
        (event,) = scripted.events
        change = decode_event(decode(event).body).change
        assert isinstance(change, RedactMessage)
        assert (change.own, change.target_seq, change.target_pos) == (own, 4, 99)

    play(scene)


def test_an_edit_that_was_made_and_cannot_be_shown() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        for told, code in (("not_ready", "outcome_unknown"), ("topic_not_found", "topic_not_found")):
            scripted = Scripted(parts, Verdict(Code.CHANGED, 9))
            scripted.refusals = [None, Refusal(told, "said")]
            with pytest.raises(Refusal) as caught:
                await edit(scripted)
            assert caught.value.code == code

    play(scene)


def test_each_change_has_a_record_of_its_own_under_one_key() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        scripted = Scripted(parts, *[Verdict(Code.CHANGED, 9)] * 8)
        other = Target("t", random_id(b"t", b"another one!"))
        for target, name, removed in (
            (TARGET, "x", False),
            (TARGET, "y", False),
            (TARGET, "x", True),
            (other, "x", False),
        ):
            await scripted.updates.react(call(key="k"), target, name, removed=removed)
        await scripted.updates.redact(call(key="k"), TARGET)
        await scripted.updates.redact(call(key="k"), other)
        for target in (TARGET, other):
            await scripted.updates.edit(call(key="k"), target, b'{"payload":1,"version":1}')
        assert len({decode(event).id for event in scripted.events}) == 8

    play(scene)


def test_the_bytes_of_a_body_are_taken_before_it_is_read() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        scripted = Scripted(parts, Verdict(Code.CHANGED, 9))
        await edit(scripted, payload="x" * 70_000)
        with pytest.raises(Refusal, match="bytes"):
            await scripted.updates.edit(call(), TARGET, b"{" * 70_000)

    play(scene, RateLimits(publish_per_user_per_min=1, body_bytes=70_000))
