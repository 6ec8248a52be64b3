"""ingest.bundles: a batch becomes few records, in order; each item has one outcome, at its own place."""

import pytest

from headgate.core.wire.envelope import ITEM
from headgate.core.wire.errors import Refusal
from ingest.admission import Publish
from ingest.bundles import BUNDLE_BYTES, BUNDLE_ITEMS, bundles, hand_over_all
from ingest.durable import PendingAppend
from ingest.ephemeral import PendingRelay
from ingest.publishing import Pending
from ingest.rates import RateLimits
from tests.ingest.parts import ACCEPTED, ANA, Parts, play, publish


def test_a_bundle_ends_at_either_bound() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        small = [publish(info, b"%d" % at) for at in range(2 * BUNDLE_ITEMS + 1)]
        assert [len(bundle) for bundle in bundles(small)] == [BUNDLE_ITEMS, BUNDLE_ITEMS, 1]
        assert [one for bundle in bundles(small) for one in bundle] == small
        frame = len(publish(info, b"").item.tail) + ITEM.size
        half, more = publish(info, b"x" * (BUNDLE_BYTES // 2 - frame)), publish(info, b"x" * (BUNDLE_BYTES // 2))
        assert bundles([half, half, half]) == [[half, half], [half]]
        assert bundles([half, more, half]) == [[half], [more], [half]]
        huge = publish(info, b"x" * 2 * BUNDLE_BYTES)
        assert bundles([huge, half]) == [[huge], [half]]
        assert bundles([huge]) == [[huge]]
        assert bundles([]) == []

    play(scene)


def test_every_item_has_its_outcome_at_its_place() -> None:
    async def scene(parts: Parts) -> None:
        durable, ephemeral = await parts.topic("t"), await parts.topic("e", profile="ephemeral")
        bad = Refusal("invalid_payload", "bad")
        checked: list[Publish | Refusal] = [
            publish(durable, b"1"),
            bad,
            publish(ephemeral, b"2"),
            publish(durable, b"3"),
            bad,
        ]
        pending = hand_over_all(parts.publishing, checked)
        assert [type(one) for one in pending] == [PendingAppend, Refusal, PendingRelay, PendingAppend, Refusal]
        assert pending[1] is bad
        assert [one.publish for one in pending if not isinstance(one, Refusal)] == [checked[0], checked[2], checked[3]]
        assert isinstance(pending[0], PendingAppend) and isinstance(pending[3], PendingAppend)
        assert pending[0].append is pending[3].append
        assert (pending[0].item, pending[3].item) == (0, 1)

    play(scene)


def test_a_second_item_of_one_client_msg_id_repeats_the_first() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        checked = [publish(info, payload, "k") for payload in (b"1", b"1", b"2")]
        pending = hand_over_all(parts.publishing, checked)
        assert isinstance(pending[0], PendingAppend) and isinstance(pending[1], PendingAppend)
        assert (pending[0].is_repeat, pending[1].is_repeat) == (False, True)
        assert isinstance(pending[2], Refusal) and pending[2].code == "idempotency_conflict"
        answers = [await parts.publishing.answer(one, ACCEPTED) for one in pending[:2] if not isinstance(one, Refusal)]
        assert [answer.get("duplicate") for answer in answers] == [None, True]
        assert len(parts.owner.messages("t")) == 1

    play(scene)


def test_the_rate_refuses_items_one_by_one() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        checked = [publish(info, b"%d" % at, caller=ANA) for at in range(5)]
        refused = [isinstance(one, Refusal) for one in hand_over_all(parts.publishing, checked)]
        assert refused == [False, False, False, True, True]

    play(scene, RateLimits(publish_per_user_per_min=3))


def test_behind_an_item_that_the_rate_refused_none_to_its_topic_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(parts: Parts) -> None:
        topic, other = await parts.topic("t"), await parts.topic("other")
        known = publish(topic, b"0", "known", caller=ANA)
        hand_over_all(parts.publishing, [known])
        admit = parts.publishing.admit

        def slowly(one: Publish) -> Pending | None:
            parts.clock.virtual.now += 0.4  # so a token comes every third item
            return admit(one)

        monkeypatch.setattr(parts.publishing, "admit", slowly)
        checked: list[Publish | Refusal] = [publish(topic, b"%d" % at, f"k{at}", caller=ANA) for at in range(6)]
        again = publish(topic, b"2", "k2", caller=ANA)
        checked += [again, publish(topic, b"0", "known", caller=ANA), publish(topic, b"1", "known", caller=ANA)]
        checked += [publish(other, b"%d" % at, caller=ANA) for at in range(2)]
        found = [
            one.code if isinstance(one, Refusal) else "repeat" if one.is_repeat else "passes"
            for one in hand_over_all(parts.publishing, checked)
        ]
        first = found.index("rate_limited")
        assert 0 < first <= 3, found
        assert set(found[first:7]) == {"rate_limited"}, "the repeat of one that is refused too"
        assert found[7:] == ["repeat", "idempotency_conflict", "passes", "passes"]

    play(scene, RateLimits(publish_per_user_per_min=60, publish_per_topic_per_s=1))
