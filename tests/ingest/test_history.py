"""ingest.history: what a query asks for, which seqs a page has, and its JSON."""

import json

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text
from headgate.core.wire.link import AskHistory, HistoryPage
from headgate.runtime.http.call import Call
from headgate.runtime.http.memory_budget import REQUEST_BYTES, MemoryBudget
from ingest.history import NOT_GIVEN, HistoryEndpoint, Range, body_of, bounds, read_query
from tests.ingest.parts import ANA, Parts, play, publish

SEVEN = Range(NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, 7)


def page(first_seq: int, last_seq: int, begin: int) -> HistoryPage:
    return HistoryPage(1, 9, first_seq, last_seq, True, [b'{"seq":%d,"payload":{"seq":1}}' % begin])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Range(-1, -1, -1, 100)),
        ({"after_seq": "0", "before_seq": "9", "since_ts": "5", "limit": "1000"}, Range(0, 9, 5, 1000)),
        ({"kinds": "message"}, Range(-1, -1, -1, 100, "message")),
        ({"parent_message_id": id_text(bytes(16))}, Range(-1, -1, -1, 100, "", bytes(16))),
    ],
)
def test_a_query(query: dict[str, str], expected: Range) -> None:
    assert read_query(query) == expected


@pytest.mark.parametrize(
    "query", [{"kinds": "edit"}, {"parent_message_id": "x"}, {"limit": "0"}, {"limit": "1001"}, {"after_seq": "-1"}]
)
def test_a_query_that_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="bad_request"):
        read_query(query)


@pytest.mark.parametrize(
    ("first", "wanted", "expected"),
    [
        (page(1, 100, 94), SEVEN, (94, 101)),
        (page(98, 100, 98), SEVEN, (98, 101)),
        (page(1, 100, 43), SEVEN._replace(before_seq=50), (43, 50)),
        (page(1, 100, 94), SEVEN._replace(before_seq=500), (94, 101)),
        (page(1, 100, 11), SEVEN._replace(after_seq=10), (11, 18)),
        (page(1, 100, 98), SEVEN._replace(after_seq=97), (98, 101)),
        (page(1, 100, 20), SEVEN._replace(since_ts=5), (20, 27)),
        (page(1, 100, 20), SEVEN._replace(since_ts=5, before_seq=22), (20, 22)),
    ],
)
def test_the_seqs_of_a_page(first: HistoryPage, wanted: Range, expected: tuple[int, int]) -> None:
    assert bounds(first, wanted) == expected


@pytest.mark.parametrize("complete", [True, False])
def test_the_json_of_a_page(complete: bool) -> None:
    body = json.loads(body_of(HistoryPage(1, 9, 2, 3, complete, [b'{"seq":2}', b'{"seq":3}'])))
    messages = [{"seq": 2}, {"seq": 3}]
    assert body == {"messages": messages, "epoch": 9, "first_seq": 2, "last_seq": 3, "complete": complete}


def test_a_page_is_counted_twice_its_frames_and_an_ephemeral_topic_has_none() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        await parts.topic("e", profile="ephemeral")
        parts.durable.hand_over([publish(info, b"%d" % at) for at in range(3)])
        endpoint = HistoryEndpoint(parts.access, parts.owners, parts.rates, parts.clock)
        with MemoryBudget().share() as share:
            share.open("ana", 0)
            call = Call(ANA, {"topic_id": "t"}, {}, b"", "", None, b"", share)
            answer = await endpoint.page(call)
            frames = sum(len(delivered.frame) for delivered in parts.owner.frames["t"])
            assert share.size == REQUEST_BYTES + 2 * frames
            with pytest.raises(Refusal, match="not_in_profile"):
                await endpoint.page(call._replace(path_parameters={"topic_id": "e"}))
        assert [message["payload"] for message in json.loads(answer.body)["messages"]] == [0, 1, 2]
        assert len(parts.asked(AskHistory)) == 1

    play(scene)
