"""The Python client over HTTP, against a scripted server: what is sent again, under which id, and what is raised."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from headgate_client import Client, Gap, Message, Outgoing, Problem, Published, Ticket, Unreachable, publishing, reading
from headgate_client import api as api_module
from headgate_client.errors import CredentialsFailed
from headgate_client.publishing import BATCH_BYTES, batches

Reply = httpx.Response | type[Exception]


class Twin:
    """Answers in order what a test scripted, and then what `rest` says."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []
        self.rest: Callable[[httpx.Request], httpx.Response] = lambda _: ok()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if self.replies else self.rest(request)
        if isinstance(reply, httpx.Response):
            return reply
        raise reply("scripted")

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]

    def client(self, **more: Any) -> Client:
        client = Client("http://twin", trust_env=False, **more)
        client._api._transport = httpx.MockTransport(self)
        return client


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (api_module, publishing, reading):
        monkeypatch.setattr(module, "FIRST_WAIT_S", 0.002)


def ok(**more: Any) -> httpx.Response:
    return httpx.Response(200, json={"topic_id": "a", "message_id": "m", "client_msg_id": "c", **more})


def problem(status: int, code: str = "code", *, retryable: bool = False, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "code": code, "detail": "d", "retryable": retryable, **more})


@pytest.mark.parametrize(
    "failure",
    [
        problem(503, "log_unavailable", retryable=True), problem(504, "outcome_unknown", retryable=True),
        problem(429, "rate_limited", retryable=True), httpx.Response(502, text="bad gateway"), httpx.Response(504),
        httpx.ConnectError, httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError,
    ],
)  # fmt: skip
async def test_a_publish_has_one_id_through_all_attempts(failure: Reply) -> None:
    twin = Twin(failure, failure, ok(seq=4, epoch=7, duplicate=True))
    async with twin.client() as client:
        answer = await client.publish("a", {"n": 1}, wait="sequenced")
    assert (answer.seq, answer.epoch, answer.duplicate) == (4, 7, True)
    ids = {body["client_msg_id"] for body in twin.bodies}
    assert (len(twin.bodies), len(ids), ids == {""}) == (3, 1, False)
    assert str(twin.requests[0].url) == "http://twin/api/v1/topics/a/publish?wait=sequenced"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 415, 422])
async def test_a_refusal_is_raised_at_once(status: int) -> None:
    twin = Twin(problem(status, "forbidden"))
    async with twin.client() as client:
        with pytest.raises(Problem) as found:
            await client.publish("a", 1)
    assert (found.value.status, found.value.code, found.value.detail, len(twin.requests)) == (
        status,
        "forbidden",
        "d",
        1,
    )


async def test_a_server_that_never_answers_is_given_up() -> None:
    twin = Twin()
    twin.rest = lambda _: problem(503, "not_ready", retryable=True)
    async with twin.client(patience_s=0.1) as client:
        with pytest.raises(Problem, match="503 not_ready"):
            await client.publish("a", 1)
    assert len(twin.requests) > 1
    async with Client("http://127.0.0.1:9", patience_s=0.1, trust_env=False) as client:
        with pytest.raises(Unreachable):
            await client.publish("a", 1)


async def test_it_waits_as_long_as_the_server_asks() -> None:
    busy = httpx.Response(429, headers={"Retry-After": "1"}, json={"code": "rate_limited", "retryable": True})
    twin = Twin(busy, ok())
    async with twin.client() as client:
        began = asyncio.get_running_loop().time()
        await client.publish("a", 1)
        assert asyncio.get_running_loop().time() - began >= 1.0


async def test_other_members_and_the_payload_are_sent_as_given() -> None:
    twin = Twin()
    async with twin.client(user="ann") as client:
        await client.publish("a/b", None, client_msg_id="mine", key="k", priority="LOW", parent_message_id="p")
    body = {"client_msg_id": "mine", "key": "k", "priority": "LOW", "parent_message_id": "p", "payload": None}
    assert twin.bodies == [body]
    assert twin.requests[0].url.raw_path == b"/api/v1/topics/a%2Fb/publish"
    assert twin.requests[0].headers["X-Headgate-User"] == "ann"
    async with twin.client() as client:
        for wrong in (float("inf"), {1, 2}):
            with pytest.raises((ValueError, TypeError)):
                await client.publish("a", wrong)
        with pytest.raises(TypeError):
            await client.publish("a", 1, colour="red")


async def test_only_the_messages_that_wait_are_sent_again() -> None:
    good = {"status": 200, "topic_id": "a", "message_id": "m"}

    def results(*found: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={"results": [{"client_msg_id": "x", **each} for each in found]})

    busy = {"status": 503, "code": "log_unavailable", "retryable": True, "retry_after_ms": 1}
    refused = {"status": 400, "code": "invalid_payload", "retryable": False}
    twin = Twin(results(good, busy, refused, busy), results(good, busy), results(good))
    async with twin.client() as client:
        answers = await client.publish_batch([Outgoing(payload=n) for n in range(4)], topic_id="a")
    assert [type(answer) for answer in answers] == [Published, Published, Problem, Published]
    sent = [[json.loads(line) for line in request.content.splitlines()] for request in twin.requests]
    assert [[item["payload"] for item in batch] for batch in sent] == [[0, 1, 2, 3], [1, 3], [3]]
    assert sent[2][0]["client_msg_id"] == sent[1][1]["client_msg_id"] == sent[0][3]["client_msg_id"]
    assert twin.requests[0].headers["Content-Type"] == "application/x-ndjson"


def test_batches_keep_both_bounds() -> None:
    assert [len(batch) for batch in batches(Outgoing(payload=n) for n in range(2_001))] == [1_000, 1_000, 1]
    big = [Outgoing(payload="x" * 60_000) for _ in range(300)]
    sizes = [sum(len(line.text) + 1 for line in batch) for batch in batches(big)]
    assert max(sizes) <= BATCH_BYTES and len(sizes) == 3
    assert list(batches([])) == []


async def test_a_refused_token_is_fetched_once_more() -> None:
    tokens = iter(["old", "new", "never"])

    async def fetch() -> str:
        return next(tokens)

    twin = Twin(problem(401, "token_expired"), ok(), problem(401), problem(401))
    async with twin.client(credentials=fetch) as client:
        await client.publish("a", 1)
        assert [request.headers["Authorization"] for request in twin.requests] == ["Bearer old", "Bearer new"]
        with pytest.raises(Problem, match="401"):
            await client.publish("a", 1)
    assert len(twin.requests) == 4
    twin = Twin(problem(401))
    async with twin.client(token="t") as client:
        with pytest.raises(Problem, match="401"):
            await client.publish("a", 1)


async def test_credentials_that_cannot_be_used() -> None:
    async def ticket() -> Ticket:
        return Ticket("t")

    async def nothing() -> Any:
        return None

    async def fails() -> str:
        raise OSError("no backend")

    cases: list[tuple[Any, str]] = [(ticket, "streams only"), (nothing, "NoneType"), (fails, "no backend")]
    for fetch, why in cases:
        async with Twin().client(credentials=fetch, patience_s=0.1) as client:
            with pytest.raises(CredentialsFailed, match=why):
                await client.publish("a", 1)


async def test_a_request_without_a_key_is_not_repeated_where_that_may_double_it() -> None:
    twin = Twin(httpx.ReadError, httpx.ReadError, ok())
    async with twin.client() as client:
        with pytest.raises(Unreachable):
            await client.request("POST", "/api/v1/topics", body={"name": "a"})
        assert len(twin.requests) == 1
        await client.request("POST", "/api/v1/topics", body={"name": "a"}, key="k")
    assert [request.headers.get("Idempotency-Key") for request in twin.requests] == [None, "k", "k"]
    twin = Twin(httpx.ReadError, httpx.Response(204))
    async with twin.client() as client:
        assert await client.request("DELETE", "/api/v1/topics/a") is None


def kept(first: int, last: int, epoch: int = 7) -> Callable[[httpx.Request], httpx.Response]:
    """History of a topic that keeps seq `first` to `last`, three a page."""

    def answer(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params.get("after_seq", 0))
        if 0 < after < first - 1:
            return problem(410, "gone", first_seq=first)
        seqs = range(max(after + 1, first), last + 1)[:3]
        messages = [{"type": "message", "topic_id": "a", "seq": seq, "payload": seq} for seq in seqs]
        body = {"messages": messages, "epoch": epoch, "first_seq": first, "last_seq": last, "complete": True}
        return httpx.Response(200, json=body)

    return answer


async def test_history_is_read_to_its_end() -> None:
    twin = Twin(
        httpx.Response(200, json={"messages": [], "epoch": 7, "first_seq": 1, "last_seq": 9, "complete": False})
    )
    twin.rest = kept(1, 10)
    async with twin.client() as client:
        assert [m.seq async for m in client.messages("a")] == list(range(1, 11))
        assert [m.seq async for m in client.messages("a", after_seq=3, to_seq=8)] == [4, 5, 6, 7, 8]
        page = await client.history("a", limit=2, messages_only=True)
        assert (page.last_seq, page.messages[0].position) == (10, {"epoch": 7, "seq": 1})
    assert dict(twin.requests[-1].url.params) == {"kinds": "message", "limit": "2"}


@pytest.mark.parametrize(
    ("recoverable", "first", "epoch", "found"),
    [(True, 1, 7, [3, 4, 5]), (False, 1, 7, []), (True, 9, 7, []), (True, 1, 8, [])],
)
async def test_a_gap_is_refetched_as_far_as_history_has_it(
    recoverable: bool, first: int, epoch: int, found: list[int]
) -> None:
    twin = Twin()
    twin.rest = kept(first, 10, epoch)
    gap = Gap(
        topic_id="a", frame={}, from_seq=3, to_seq=5, count=3, reason="slow_consumer", recoverable=recoverable, epoch=7
    )
    async with twin.client() as client:
        messages: list[Message] = [message async for message in client.refetch(gap)]
    assert [message.seq for message in messages] == found


async def test_an_index_that_stays_incomplete_is_an_error_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATIENCE_S", 0.05)
    twin = Twin()

    def answer(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params["after_seq"])
        messages = [] if after else [{"type": "message", "topic_id": "a", "seq": 1, "payload": 1}]
        body = {"messages": messages, "epoch": 7, "first_seq": 1, "last_seq": 9, "complete": not after}
        return httpx.Response(200, json=body)

    twin.rest = answer
    async with twin.client() as client:
        found = client.messages("a")
        assert (await anext(found)).seq == 1
        await asyncio.sleep(0.1)  # the time of the reader is none of the server's
        with pytest.raises(Unreachable, match="cannot answer for all above 1"):
            await anext(found)
    assert len(twin.requests) > 2, "it was asked again after the reader had taken its time"


async def test_a_publish_that_fails_says_under_which_id_it_may_be_repeated() -> None:
    async def fails() -> str:
        raise OSError("no backend")

    twin = Twin()
    twin.rest = lambda _: httpx.Response(504)
    async with twin.client(patience_s=0.05) as client:
        with pytest.raises(Problem) as failed:
            await client.publish("a", 1)
        assert failed.value.client_msg_id == twin.bodies[0]["client_msg_id"]
    async with Twin().client(credentials=fails, patience_s=0.05) as client:
        with pytest.raises(CredentialsFailed) as unsent:
            await client.publish("a", 1, client_msg_id="mine")
        assert unsent.value.client_msg_id == "mine"


async def test_a_batch_that_fails_says_what_became_of_each_message() -> None:
    good = {"status": 200, "topic_id": "a", "message_id": "m"}
    busy = {"status": 503, "code": "overloaded", "retryable": True, "retry_after_ms": 1}
    refused = {"status": 400, "code": "invalid_payload", "retryable": False}
    first = [good] * 998 + [refused, busy]
    twin = Twin(httpx.Response(200, json={"results": [{"client_msg_id": "x", **each} for each in first]}))
    twin.rest = lambda _: httpx.Response(504)
    async with twin.client(patience_s=0.05) as client:
        with pytest.raises(Problem) as failed:
            await client.publish_batch((Outgoing(payload=n) for n in range(2_500)), topic_id="a")
    answers, ids = failed.value.answers, failed.value.client_msg_ids
    assert [type(answer) for answer in answers] == [Published] * 998 + [Problem, type(None), type(None)]
    sent = [json.loads(line)["client_msg_id"] for line in twin.requests[0].content.splitlines()]
    assert list(ids[:1_000]) == sent and len(ids) == len(answers) == 1_001, "one more was taken from the iterable"


async def test_credentials_that_fail_for_a_while_are_asked_for_again() -> None:
    asked = 0

    async def fetch() -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise OSError("no backend")
        return "t"

    async with Twin().client(credentials=fetch) as client:
        await client.request("POST", "/api/v1/topics", body={"name": "a"})  # it was not sent: it is safe to repeat
    assert asked == 3
