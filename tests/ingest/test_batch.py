"""ingest.batch: each step keeps the places of the items, and one that is refused is refused in its own place."""

import json
from typing import Any

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.http.bodies import JSON, NDJSON
from headgate.runtime.http.call import Call
from headgate.runtime.http.memory_budget import MemoryBudget
from ingest.batch import BatchEndpoints
from ingest.publish_reader import PublishReader
from ingest.rates import RateLimits
from tests.ingest.parts import SERVICE, Parts, play
from tests.ingest.test_publish_topics import BO, targets_of


def endpoints_of(parts: Parts, item_bytes: int = 100) -> BatchEndpoints:
    reader = PublishReader(parts.rates, parts.clock, parts.shell.rng, 1_000)
    return BatchEndpoints(targets_of(parts), reader, parts.publishing, parts.rates, max_items=5, item_bytes=item_bytes)


def call(body: bytes, caller: Caller = SERVICE, media_type: str = JSON, key: str | None = None) -> Call:
    return Call(caller, {"topic_id": "t"}, {"wait": "sequenced"}, b"", media_type, key, body, MemoryBudget().share())


async def outcomes(reply: Any) -> list[Any]:
    return [result.get("seq", result.get("code")) for result in json.loads((await reply).body)["results"]]


def test_the_items_of_one_topic_have_their_outcomes_in_order() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        large = b'{"payload":"%b"}' % (b"x" * 87)
        lines = [b'{"payload":1}', b"{", large, large[:-3] + large[-2:], b"{}"]
        body = b"\n".join(lines)
        found = await outcomes(endpoints_of(parts).of_topic(call(body, media_type=NDJSON)))
        assert found == [1, "bad_request", "too_large", 2, "invalid_payload"]
        assert sum(parts.metrics.published.values()) == 5

    play(scene)


def test_the_items_of_any_topics_have_their_outcomes_in_order() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        bodies: list[Any] = [
            {"topic_id": "t", "payload": 1},
            {"topic_id": "hg:x", "payload": 1},
            {"topic_id": "t"},
            {"payload": 1},
            {"topic_id": "t", "payload": 2},
        ]
        found = await outcomes(endpoints_of(parts).of_any(call(json.dumps(bodies).encode())))
        assert found == [1, "topic_not_found", "invalid_payload", "bad_request", 2]

    play(scene)


def test_the_first_good_item_pays_with_the_creation_of_its_topic() -> None:
    async def scene(parts: Parts) -> None:
        items = [b"{}", *[b'{"payload":1}'] * 3]
        found = await outcomes(endpoints_of(parts).of_topic(call(b"\n".join(items), BO, NDJSON)))
        assert found == ["invalid_payload", 1, 2, "rate_limited"], "two publishes a minute, one paid by the creation"
        parts.clock.virtual.now += 60
        bodies = [{"topic_id": "u", "payload": at} for at in range(3)]
        found = await outcomes(endpoints_of(parts).of_any(call(json.dumps(bodies).encode(), BO)))
        assert found == [1, 2, "rate_limited"]

    play(scene, RateLimits(publish_per_user_per_min=2, publish_per_topic_per_s=100))


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (call(b"[]", key="k"), "bad_request"),
        (call(b"[" + b",".join([b"{}"] * 6) + b"]"), "too_large"),
        (call(b"{}"), "bad_request"),
        (call(b"[]", Caller("eve", only=True)), "forbidden"),
    ],
)
def test_a_batch_that_is_refused_as_a_whole(made: Call, code: str) -> None:
    async def scene(parts: Parts) -> None:
        with pytest.raises(Refusal, match=code):
            await endpoints_of(parts).of_any(made)

    play(scene)


def test_a_batch_without_a_good_item_makes_no_topic() -> None:
    async def scene(parts: Parts) -> None:
        with pytest.raises(Refusal, match="topic_not_found"):
            await endpoints_of(parts).of_topic(call(b"[{}]"))
        assert parts.metrics.records == 0

    play(scene)
