"""`headgate presence` and `headgate subscribe --presence`: what they ask, and what they print."""

from websockets.sync.server import ServerConnection

from tests.cli.conftest import Headgate
from tests.cli.test_subscribe import Streams, end, messages, say, subscribed
from tests.cli.twin import Twin, refusal

ANN = {"user_id": "ann", "connections": 2, "since": "2026-01-01T00:00:00.000Z", "state": "away"}


def test_users_come_one_a_line_over_all_pages_and_the_count_on_standard_error(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"subscribers": [ANN], "count": 7, "next_page": "p"}))
    twin.next((200, {}, {"subscribers": [{**ANN, "user_id": "bob"}], "count": 7, "next_page": None}))
    twin.next((200, {}, {"subscribers": [ANN], "count": 7, "next_page": "p"}))
    done = headgate("presence", "a:b", "--url", twin.url)
    assert (done.status, done.lines) == (0, [ANN, {**ANN, "user_id": "bob"}])
    assert done.err == "a:b: 7 users\n"
    path = "/api/v1/topics/a%3Ab/subscribers?limit="
    assert [found[1].replace(":", "%3A") for found in twin.requests] == [
        f"{path}1000",
        f"{path}1000&page=p",
        f"{path}1",
    ]


def test_a_person_reads_a_user_a_line(headgate: Headgate, twin: Twin) -> None:
    for _ in range(2):
        twin.next((200, {}, {"subscribers": [ANN], "count": 1, "next_page": None}))
    done = headgate.on_terminal("presence", "t", "--url", twin.url)
    assert (done.status, done.out) == (0, "ann  away  2 connections  2026-01-01T00:00:00.000Z\n")


def test_a_refusal_is_one_line_and_a_bad_topic_a_wrong_command(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(403, "forbidden"))
    done = headgate("presence", "t", "--url", twin.url)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert headgate("presence", "-t", "--url", twin.url).status == 2


def test_subscribe_prints_who_comes_and_goes_beside_the_messages(headgate: Headgate) -> None:
    streams = Streams()

    def script(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "t", 0)
        say(ws, type="presence", topic_id="t", subscribers=[ANN], count=1)
        say(ws, type="presence_diff", topic_id="t", joined=[], left=[], changed=[], count=2)
        messages(ws, "t", 1)
        end(ws, 4403)

    streams.scripts = [script]
    try:
        done = headgate("subscribe", "t", "--presence", "--count", "1", "--url", streams.url)
    finally:
        streams.close()
    assert [line["type"] for line in done.lines] == ["presence", "presence_diff", "message"]
    assert streams.heard == [[{"type": "subscribe", "topic_id": "t", "from": "live", "presence": True}]]
