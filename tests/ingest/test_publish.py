"""ingest.publish: the request of one publish is read once, also where it makes its topic, and counted once."""

import json

import pytest

from headgate.core.publish.body import PublishBody
from headgate.core.wire.errors import Refusal
from headgate.runtime.http.call import Call
from headgate.runtime.http.memory_budget import MemoryBudget
from ingest.admission import Wait
from ingest.publish import PublishEndpoint
from ingest.publish_reader import PublishReader
from tests.ingest.parts import SERVICE, Parts, play
from tests.ingest.test_publish_topics import targets_of


class CountingReader(PublishReader):
    """Counts how often the query and the body are read."""

    begun = 0
    bodies = 0

    def begin(self, call: Call, *, is_charged: bool = False) -> Wait:
        self.begun += 1
        return super().begin(call, is_charged=is_charged)

    def body(self, raw: bytes) -> PublishBody:
        self.bodies += 1
        return super().body(raw)


def call(body: bytes, topic_id: str = "t", **query: str) -> Call:
    share = MemoryBudget().share()
    return Call(SERVICE, {"topic_id": topic_id}, query, b"", "application/json", None, body, share)


@pytest.mark.parametrize("exists", [True, False])
def test_the_request_is_read_once(exists: bool) -> None:
    async def scene(parts: Parts) -> None:
        if exists:
            await parts.topic("t")
        reader = CountingReader(parts.rates, parts.clock, parts.shell.rng, 1_000)
        endpoint = PublishEndpoint(targets_of(parts), reader, parts.publishing, parts.rates)
        answer = await endpoint.one(call(b'{"payload":1}', wait="sequenced"))
        assert json.loads(answer.body)["seq"] == 1
        assert (reader.begun, reader.bodies) == (1, 1)
        assert parts.metrics.published == {("accepted", "durable"): 1}

    play(scene)


def test_a_refused_publish_is_counted_under_its_code_and_makes_no_topic() -> None:
    async def scene(parts: Parts) -> None:
        reader = CountingReader(parts.rates, parts.clock, parts.shell.rng, 1_000)
        endpoint = PublishEndpoint(targets_of(parts), reader, parts.publishing, parts.rates)
        for body, topic_id, code in (
            (b"{", "t", "bad_request"),
            (b"{}", "t", "invalid_payload"),
            (b"", "-", "invalid_topic_id"),
        ):
            with pytest.raises(Refusal, match=code):
                await endpoint.one(call(body, topic_id))
        assert parts.metrics.published == dict.fromkeys(
            [("bad_request", "durable"), ("invalid_payload", "durable"), ("invalid_topic_id", "durable")], 1
        )
        assert parts.metrics.records == 0

    play(scene)
