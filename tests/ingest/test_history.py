"""ingest.history: what a query asks for, which seqs a page has, and its JSON."""

import asyncio
import json
from collections.abc import Callable

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text
from headgate.core.wire.link import AskHistory, HistoryPage
from headgate.runtime.http.call import Call
from headgate.runtime.http.memory_budget import REQUEST_BYTES, MemoryBudget
from ingest.bounded_reads import BoundedReads
from ingest.history import NOT_GIVEN, HistoryEndpoint, Range, body_of, bounds, read_query
from tests.ingest.parts import ANA, Parts, call, play, publish

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


def endpoint_of(parts: Parts) -> HistoryEndpoint:
    reads = BoundedReads("history", parts.rates, parts.shell.rng)
    return HistoryEndpoint(parts.access, parts.owners, reads, parts.shell)


def test_a_page_is_counted_twice_its_frames_and_an_ephemeral_topic_has_none() -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t")
        await parts.topic("e", profile="ephemeral")
        parts.durable.hand_over([publish(info, b"%d" % at) for at in range(3)])
        endpoint = endpoint_of(parts)
        with MemoryBudget().share() as share:
            share.open("ana", 0)
            request = Call(ANA, {"topic_id": "t"}, {}, b"", "", None, b"", share)
            answer = await endpoint.page(request)
            frames = sum(len(delivered.frame) for delivered in parts.owner.frames["t"])
            assert share.size == REQUEST_BYTES + 2 * frames
            with pytest.raises(Refusal, match="not_in_profile"):
                await endpoint.page(request._replace(path_parameters={"topic_id": "e"}))
        assert [message["payload"] for message in json.loads(answer.body)["messages"]] == [0, 1, 2]
        assert len(parts.asked(AskHistory)) == 1
        assert len(parts.metrics.reads) == 1, "only what an owner was asked for is measured"

    play(scene)


def test_the_time_of_a_read_is_measured_also_where_nobody_answers() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        endpoint = endpoint_of(parts)

        async def slow(*_: object) -> HistoryPage:
            await asyncio.sleep(0.3)
            return some(0, 1)

        async def silent(*_: object) -> HistoryPage:
            await asyncio.sleep(2.0)
            raise Refusal("not_ready", "nobody is there")

        endpoint._whole = slow  # type: ignore[method-assign,assignment]
        await endpoint.page(call())
        endpoint._whole = silent  # type: ignore[method-assign,assignment]
        with pytest.raises(Refusal, match="not_ready"):
            await endpoint.page(call())
        assert parts.metrics.reads == pytest.approx([0.3, 2.0])

    play(scene)


def scripted(pages: list[HistoryPage]) -> tuple[list[AskHistory], Callable[[AskHistory], HistoryPage]]:
    asked: list[AskHistory] = []

    def answer(ask: AskHistory) -> HistoryPage:
        asked.append(ask)
        page = pages[len(asked) - 1]
        return HistoryPage(ask.req, page.epoch, page.first_seq, page.last_seq, page.complete, page.frames, page.edge)

    return asked, answer


@pytest.mark.parametrize("query", [{}, {"after_seq": "0"}, {"kinds": "message"}])
def test_a_page_of_many_parts_takes_no_longer_than_a_request_may(query: dict[str, str]) -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        endpoint = endpoint_of(parts)

        async def slow(_call: Call, _topic_id: str, wanted: Range) -> HistoryPage:
            await asyncio.sleep(2.5)
            seq = wanted.after_seq + 1 if wanted.after_seq >= 0 else 90
            return some(0 if not wanted.kinds else 80, seq)

        endpoint._ask = slow  # type: ignore[method-assign,assignment]
        with pytest.raises(Refusal, match="not_ready"):
            await endpoint.page(call()._replace(query={"limit": "50", **query}))
        assert parts.metrics.reads == pytest.approx([7.5])

    play(scene)


def some(edge: int, *seqs: int, epoch: int = 9) -> HistoryPage:
    return HistoryPage(1, epoch, 1, 90, True, [b'{"seq":%d}' % seq for seq in seqs], edge)


@pytest.mark.parametrize(
    ("query", "pages", "asked", "seqs"),
    [
        ({"after_seq": "3"}, [some(0, 5, 9)], [(3, -1, -1, 4)], [5, 9]),
        ({"after_seq": "3"}, [some(20, 5, 9), some(40), some(0, 50, 60)],
         [(3, -1, -1, 4), (20, -1, -1, 2), (40, -1, -1, 2)], [5, 9, 50, 60]),
        ({"since_ts": "7", "before_seq": "80"}, [some(20, 5), some(0, 50)], [(-1, 80, 7, 4), (20, 80, -1, 3)], [5, 50]),
        ({}, [some(60, 70, 71), some(0, 5, 9)], [(-1, -1, -1, 4), (-1, 60, -1, 2)], [5, 9, 70, 71]),
        ({"before_seq": "80"}, [some(60, 70), some(10), some(0)], [(-1, 80, -1, 4), (-1, 60, -1, 3), (-1, 10, -1, 3)],
         [70]),
        ({}, [some(60, 70, 71, 72, 73)], [(-1, -1, -1, 4)], [70, 71, 72, 73]),
    ],
)  # fmt: skip
def test_a_page_with_gaps_is_asked_for_until_it_is_whole(
    query: dict[str, str], pages: list[HistoryPage], asked: list[tuple[int, ...]], seqs: list[int]
) -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        questions, parts.owner._AskHistory = scripted(pages)  # type: ignore[assignment,method-assign]
        endpoint = endpoint_of(parts)
        answer = await endpoint.page(call()._replace(query={"limit": "4", "kinds": "message", **query}))
        assert [message["seq"] for message in json.loads(answer.body)["messages"]] == seqs
        assert [(q.after_seq, q.before_seq, q.since_ts, q.limit) for q in questions] == asked
        assert {(q.kinds, q.parent_id) for q in questions} == {("message", b"")}

    play(scene)


def test_a_page_with_gaps_ends_where_the_index_cannot_answer_yet() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        rest = some(10, 30)
        rest.complete = False
        asked, parts.owner._AskHistory = scripted([some(60, 70), rest])  # type: ignore[assignment,method-assign]
        endpoint = endpoint_of(parts)
        body = json.loads((await endpoint.page(call()._replace(query={"kinds": "message"}))).body)
        assert ([message["seq"] for message in body["messages"]], body["complete"]) == ([30, 70], False)
        assert len(asked) == 2

    play(scene)


def test_a_page_with_gaps_of_a_topic_that_was_made_again_is_not_put_together() -> None:
    async def scene(parts: Parts) -> None:
        await parts.topic("t")
        _, parts.owner._AskHistory = scripted([some(60, 70), some(0, 5, epoch=10)])  # type: ignore[assignment,method-assign]
        endpoint = endpoint_of(parts)
        with pytest.raises(Refusal, match="not_ready"):
            await endpoint.page(call()._replace(query={"parent_message_id": id_text(bytes(16))}))

    play(scene)
