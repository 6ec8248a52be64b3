"""The inbox of the Python client: pages, missed messages, marks, hints and receipts."""

import json

import httpx
import pytest

from headgate_client import Client, InboxHint, Problem, ReadReceipt
from headgate_client import api as api_module
from tests.clients.python_streams import Peer, streams, take
from tests.clients.test_python_requests import Twin, problem


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a few milliseconds."""
    monkeypatch.setattr(api_module, "FIRST_WAIT_S", 0.002)


async def test_the_inbox_is_read_page_by_page_and_its_marks_are_safe_to_repeat() -> None:
    topic = {"topic_id": "a", "mode": "direct", "head_seq": 9, "cursor_seq": 7, "read_seq": 4, "unread": 5, "new": 1}
    pages = [{"topics": [topic], "next_page": "p2"}, {"topics": [topic], "next_page": None}]
    missed = {"messages": [{"topic_id": "a", "seq": 8, "payload": 1}], "more": True}
    replies = [httpx.Response(200, json=each) for each in (*pages, pages[1], missed)]
    twin = Twin(*replies, httpx.ReadError, httpx.Response(204), httpx.Response(204), problem(404, "topic_not_found"))
    async with twin.client(device_id="phone") as client:
        found = [each async for each in client.inbox_topics()]
        assert [(each.topic_id, each.unread, each.read_seq) for each in found] == [("a", 5, 4), ("a", 5, 4)]
        assert (await client.inbox(limit=2, page="p2")).next_page is None
        messages = await client.inbox_messages(limit=5)
        assert (messages.messages[0].seq, messages.messages[0].position, messages.more) == (8, None, True)
        await client.ack_inbox("a", 8)
        await client.mark_read("a", 7)
        with pytest.raises(Problem, match="topic_not_found"):
            await client.mark_read("b", 1)
    urls = [str(request.url).removeprefix("http://twin/api/v1/inbox") for request in twin.requests]
    assert urls[:4] == [
        "?device_id=phone&limit=1000", "?device_id=phone&limit=1000&page=p2", "?device_id=phone&limit=2&page=p2",
        "/messages?device_id=phone&limit=5",
    ]  # fmt: skip
    mark = {"device_id": "phone", "topic_id": "a"}
    delivered = {**mark, "seq": 8, "kind": "delivered"}
    assert [json.loads(request.content) for request in twin.requests[4:7]] == [
        delivered, delivered, {**mark, "seq": 7, "kind": "read"},
    ]  # fmt: skip


async def test_what_is_new_in_the_inbox_and_who_has_read_what_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.subscribed("a", 3)
        await peer.say("inbox", topics=[{"topic_id": "b", "head_seq": 4, "unread": 2, "new": 1}])
        await peer.say("read", "a", user_id="bob", seq=3)
        await peer.say("read", "b", user_id="ann", seq=4, unread=0)
        await peer.messages("a", 4)
        await peer.stay()

    told: list[object] = []

    def read(receipt: ReadReceipt) -> None:
        told.append(receipt)
        raise RuntimeError("of the application")

    async with (
        streams(script) as server,
        Client(server.url, on_inbox=told.append, on_read=read, trust_env=False) as client,
    ):
        messages = client.subscribe("a")
        assert await take(messages, 1) == [4]
        await messages.mark_read(4)
        assert {**server.peers[0].heard[-1], "id": 0} == {"type": "read", "topic_id": "a", "seq": 4, "id": 0}
    receipts = [
        ReadReceipt(topic_id="a", user_id="bob", seq=3),
        ReadReceipt(topic_id="b", user_id="ann", seq=4, unread=0),
    ]
    assert told == [[InboxHint(topic_id="b", head_seq=4, unread=2)], *receipts]
    assert "of the application" in caplog.text
