"""ingest.admission: a repeat is found before any rate is charged, and another body is a conflict."""

import pytest

from headgate.core.publish.body import PublishBody
from headgate.core.wire.envelope import KEYED, LOW
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text, keyed_id
from ingest.admission import Publish, answer_to
from ingest.rates import RateLimits
from tests.ingest.parts import ANA, Parts, play, publish

ONE_A_MINUTE = RateLimits(publish_per_user_per_min=1)


def test_the_id_is_the_hash_of_topic_publisher_and_client_msg_id() -> None:
    async def scene(parts: Parts) -> None:
        one = publish(await parts.topic("t"), msg_id="k", caller=ANA)
        assert one.id == keyed_id(b"t", "ana", "k")
        assert one.key == (one.info.epoch, one.id)

    play(scene)


@pytest.mark.parametrize(("given", "low", "flags"), [(True, False, KEYED), (False, True, LOW), (False, False, 0)])
def test_the_flags_of_the_item(given: bool, low: bool, flags: int) -> None:
    async def scene(parts: Parts) -> None:
        body = PublishBody(b"1", None, low, b"")
        assert Publish(await parts.topic("t"), ANA, body, "k", is_given=given).item.flags == flags

    play(scene)


def test_the_fingerprint_is_of_the_body_and_its_priority() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        prints = {
            Publish(info, ANA, PublishBody(payload, None, low, rest), "k", is_given=True).fingerprint
            for payload in (b"1", b"2")
            for low in (True, False)
            for rest in (b"", b',"parent_version":1')
            for _ in range(2)
        }
        assert len(prints) == 8

    play(scene)


def test_a_repeat_is_found_and_costs_no_rate() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        first, again, other = (publish(info, msg_id=msg_id, caller=ANA) for msg_id in ("k", "k", "x"))
        assert parts.admission.admit(first) is None
        entry = parts.admission.recent.attempt(first.key, first.fingerprint, "attempt", parts.clock.now())
        assert parts.admission.admit(again) is entry is again.entry
        with pytest.raises(Refusal, match="rate_limited"):
            parts.admission.admit(other)

    play(scene, ONE_A_MINUTE)


def test_another_body_with_the_same_client_msg_id_is_a_conflict() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        first = publish(info, msg_id="k")
        parts.admission.recent.attempt(first.key, first.fingerprint, "attempt", parts.clock.now())
        with pytest.raises(Refusal, match="idempotency_conflict"):
            parts.admission.admit(publish(info, b"2", msg_id="k"))

    play(scene)


def test_an_id_that_ingest_made_is_not_looked_up() -> None:
    async def scene(parts: Parts) -> None:
        first = publish(await parts.topic("t"))
        parts.admission.recent.attempt(first.key, b"another", "attempt", parts.clock.now())
        assert parts.admission.admit(first) is None

    play(scene)


def test_the_504_names_the_message() -> None:
    async def scene(parts: Parts) -> None:
        one = publish(await parts.topic("t"), msg_id="k")
        refusal = one.unknown("why")
        assert (refusal.code, refusal.detail) == ("outcome_unknown", "why")
        assert refusal.extra == {"message_id": id_text(one.id), "client_msg_id": "k", "topic_id": "t"}

    play(scene)


@pytest.mark.parametrize(("count", "shown", "basis"), [(3, 3, "registry"), (0, 0, "registry"), (None, 0, "unknown")])
def test_an_answer_names_the_basis_of_its_count(count: int | None, shown: int, basis: str) -> None:
    async def scene(parts: Parts) -> None:
        answer = answer_to(publish(await parts.topic("t"), msg_id="k"), count)
        assert (answer["delivered_to"], answer["delivered_to_basis"], answer["dropped"]) == (shown, basis, False)

    play(scene)
