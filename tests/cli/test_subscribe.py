"""`headgate subscribe`: prints frames as they came, comes back where it was, and does what a close code says."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from tests.cli.conftest import Command, Headgate

Script = Callable[[ServerConnection], None]


class Streams:
    """A WebSocket twin: the n-th connection is served by the n-th script, later ones by the last."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.heard: list[list[dict[str, Any]]] = []
        self.tokens: list[str | None] = []
        self.busy = 0  # so many handshakes are answered 503 first
        self._server: Server = serve(self._serve, "127.0.0.1", 0, process_request=self._handshake, compression=None)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def close(self) -> None:
        self._server.shutdown()

    def _handshake(self, ws: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization"))
        assert request.path == "/ws/subscribe"
        if not self.busy:
            return None
        self.busy -= 1
        return ws.respond(HTTPStatus.SERVICE_UNAVAILABLE, "full")

    def _serve(self, ws: ServerConnection) -> None:
        script = self.scripts[min(len(self.heard), len(self.scripts) - 1)]
        self.heard.append([])
        say(ws, type="welcome", connection_id="c", user_id="u")
        with contextlib.suppress(ConnectionClosed):
            script(ws)

    def hears(self, ws: ServerConnection) -> dict[str, Any]:
        """Returns the next frame; `heard` has it without its `id`."""
        frame: dict[str, Any] = json.loads(ws.recv())
        self.heard[-1].append({name: value for name, value in frame.items() if name != "id"})
        return frame


def say(ws: ServerConnection, **frame: Any) -> None:
    ws.send(json.dumps(frame, separators=(",", ":")))


def subscribed(ws: ServerConnection, topic: str, seq: int, epoch: int = 7, **more: Any) -> None:
    say(ws, type="subscribed", topic_id=topic, profile="durable", epoch=epoch, seq=seq, **more)


def messages(ws: ServerConnection, topic: str, *seqs: int) -> None:
    for seq in seqs:
        say(ws, type="message", topic_id=topic, seq=seq, ts=1, message_id="m", publisher_id="p", payload={"n": seq})


def end(ws: ServerConnection, code: int, **more: Any) -> None:
    say(ws, type="disconnect", code=code, reason=f"why {code}", **more)
    ws.close(code)


def gives(streams: "Streams", *seqs: int) -> Script:
    """A script that takes one subscribe, sends messages of topic a and then waits for the end."""

    def script(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 0)
        messages(ws, "a", *seqs)
        ws.recv()

    return script


@pytest.fixture
def streams() -> Iterator[Streams]:
    running = Streams()
    yield running
    running.close()


def seqs(lines: list[Any]) -> list[int]:
    return [line["seq"] for line in lines]


def test_prints_messages_as_they_came_and_ends_after_the_count(headgate: Headgate, streams: Streams) -> None:
    def script(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 3)
        ws.send('{"type":"message","topic_id":"a","seq":4,"payload":1.10}')
        ws.send('{"type":"message","topic_id":"a","seq":5,"payload":1e400}')
        ws.recv()

    streams.scripts = [script]
    done = headgate("subscribe", "a", "--count", "2", "--url", streams.url, "--token", "abc")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        '{"type":"message","topic_id":"a","seq":4,"payload":1.10}',
        '{"type":"message","topic_id":"a","seq":5,"payload":1e400}',
    ]
    assert streams.heard == [[{"type": "subscribe", "topic_id": "a", "from": "live"}]]
    assert streams.tokens == ["Bearer abc"]


@pytest.mark.parametrize("payload", [r'"\ud800"', "1e999", r'["\udfff","\ud83d\ude00",1.10]'])
@pytest.mark.parametrize("person", [False, True])
def test_any_legal_payload_is_printed_as_it_came(
    headgate: Headgate, streams: Streams, payload: str, person: bool
) -> None:
    text = f'{{"type":"message","topic_id":"a","seq":1,"payload":{payload}}}'

    def script(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 1)
        ws.send(text)
        ws.recv()

    streams.scripts = [script]
    run = headgate.on_terminal if person else headgate
    done = run("subscribe", "a", "--from", "earliest", "--count", "1", "--url", streams.url)
    assert (done.status, done.out, done.err) == (0, f"{text}\n", "")


def test_every_frame_with_frames(headgate: Headgate, streams: Streams) -> None:
    streams.scripts = [gives(streams, 1)]
    done = headgate("subscribe", "a", "--frames", "--count", "1", "--stream-url", streams.url)
    assert [line["type"] for line in done.lines] == ["welcome", "subscribed", "message"]


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        ("earliest", "earliest"),
        ("7:12", {"epoch": 7, "seq": 12}),
        ("seq:3", {"seq": 3}),
        ("ts:5", {"ts": 5}),
        ("last:9", {"last": 9}),
        ("cursor", "cursor"),
    ],
)
def test_from_forms(headgate: Headgate, streams: Streams, form: str, sent: object) -> None:
    streams.scripts = [gives(streams, 1)]
    assert headgate("subscribe", "a", "--from", form, "--count", "1", "--url", streams.url).status == 0
    assert streams.heard[0][0]["from"] == sent


@pytest.mark.parametrize("words", [("a", "--from", "now"), ("a", "--device", ""), ("a b",), ("a", "--count", "0"), ()])
def test_a_wrong_command(at_once: Command, words: tuple[str, ...]) -> None:
    done = at_once("subscribe", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)


def test_ack_acknowledges_what_it_printed_and_comes_back_to_its_cursor(headgate: Headgate, streams: Streams) -> None:
    def acks_up_to(ws: ServerConnection, seq: int) -> None:
        while streams.hears(ws)["seq"] != seq:
            pass

    def first(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 0, resumed=False, reason="no_cursor")
        messages(ws, "a", 1, 2, 3)
        acks_up_to(ws, 3)
        say(ws, type="message", topic_id="a", seq=2, attempt=1, payload={"n": 2})  # a replayed dead letter
        acks_up_to(ws, 2)
        end(ws, 4601)

    def second(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 4, resumed=True)
        messages(ws, "a", 4)
        acks_up_to(ws, 4)

    streams.scripts = [first, second]
    done = headgate("subscribe", "a", "--ack", "--device", "phone", "--count", "5", "--url", streams.url)
    assert (done.status, seqs(done.lines)) == (0, [1, 2, 3, 2, 4])
    wanted = {"type": "subscribe", "topic_id": "a", "from": "cursor", "ack": True, "device_id": "phone"}
    place = {"epoch": 7, "seq": 3}  # the cursor that was not there may not be stored yet
    assert [heard[0] for heard in streams.heard] == [wanted, {**wanted, "from": place}]


@pytest.mark.parametrize("repeats", [False, True])
def test_with_frames_it_ends_once_all_that_was_printed_is_acknowledged(
    headgate: Headgate, streams: Streams, repeats: bool
) -> None:
    acks, gone = list[int](), threading.Event()

    def script(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 0, resumed=False, reason="no_cursor")
        messages(ws, "a", *range(1, 7))
        if repeats:  # printed too; whether it is handed over once more is the client's
            say(ws, type="message", topic_id="a", seq=6, attempt=2, ts=1, message_id="m", publisher_id="p", payload=0)
        messages(ws, "a", *range(7, 31))
        with contextlib.suppress(ConnectionClosed):
            while True:
                acks.append(streams.hears(ws)["seq"])
        gone.set()

    streams.scripts = [script]
    done = headgate("subscribe", "a", "--frames", "--ack", "--count", "12", "--url", streams.url)
    wanted = [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11] if repeats else list(range(1, 13))
    assert (done.status, seqs(done.lines[2:])) == (0, wanted)
    assert gone.wait(10) and max(acks) == wanted[-1]


@pytest.mark.parametrize("code", [4503, 4601, 1012, None])
def test_comes_back_where_it_was(headgate: Headgate, streams: Streams, code: int | None) -> None:
    """Each topic by its own (epoch, seq): b got nothing yet, but live began at its head."""

    def first(ws: ServerConnection) -> None:
        streams.hears(ws), streams.hears(ws)
        subscribed(ws, "a", 3)
        subscribed(ws, "b", 0, epoch=8)
        messages(ws, "a", 4, 5)
        if code is None:
            ws.socket.close()
        elif code >= 4000:
            end(ws, code, reconnect=True, retry_after_ms=10)
        else:
            ws.close(code)

    def second(ws: ServerConnection) -> None:
        streams.hears(ws), streams.hears(ws)
        subscribed(ws, "a", 6, resumed=True)
        messages(ws, "a", 6)
        ws.recv()

    streams.scripts = [first, second]
    done = headgate("subscribe", "a", "b", "--count", "3", "--url", streams.url)
    assert done.status == 0
    assert seqs(done.lines) == [4, 5, 6]
    assert [frame["from"] for frame in streams.heard[1]] == [{"epoch": 7, "seq": 5}, {"epoch": 8, "seq": 0}]


def test_last_none_comes_back_to_where_it_began(headgate: Headgate, streams: Streams) -> None:
    def first(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 3)
        end(ws, 4601)

    streams.scripts = [first, gives(streams, 4)]
    assert headgate("subscribe", "a", "--from", "last:0", "--count", "1", "--url", streams.url).status == 0
    assert [heard[0]["from"] for heard in streams.heard] == [{"last": 0}, {"epoch": 7, "seq": 3}]


def test_a_topic_created_again_is_read_from_its_beginning(headgate: Headgate, streams: Streams) -> None:
    def first(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 3)
        end(ws, 4601)

    def second(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 2, epoch=9, resumed=False, reason="epoch_changed")
        end(ws, 4601)

    def third(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 2, epoch=9)
        messages(ws, "a", 1)
        ws.recv()

    streams.scripts = [first, second, third]
    assert headgate("subscribe", "a", "--count", "1", "--url", streams.url).status == 0
    assert [heard[0]["from"] for heard in streams.heard] == ["live", {"epoch": 7, "seq": 3}, "earliest"]


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4610, 1009])
def test_stops_where_the_class_says_so(headgate: Headgate, streams: Streams, code: int) -> None:
    def script(ws: ServerConnection) -> None:
        streams.hears(ws)
        end(ws, code) if code >= 4000 else ws.close(code)

    streams.scripts = [script]
    done = headgate("subscribe", "a", "--url", streams.url)
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert str(code) in done.err
    assert len(streams.heard) == 1


def test_a_topic_that_is_refused_does_not_end_the_others(headgate: Headgate, streams: Streams) -> None:
    def script(ws: ServerConnection) -> None:
        asked = [streams.hears(ws) for _ in "ab"]
        (of_a,) = (frame["id"] for frame in asked if frame["topic_id"] == "a")
        refused = {"code": "topic_not_found", "message": "there is no topic a", "retryable": False}
        say(ws, type="error", id=of_a, topic_id="a", **refused)
        subscribed(ws, "b", 0)
        messages(ws, "b", 1)
        say(ws, type="unsubscribed", topic_id="b", reason="deleted")
        ws.recv()

    streams.scripts = [script]
    done = headgate("subscribe", "a", "b", "--url", streams.url)
    assert (done.status, seqs(done.lines)) == (1, [1])
    assert "topic_not_found" in done.err


def test_an_owner_that_is_away_is_asked_again(headgate: Headgate, streams: Streams) -> None:
    def script(ws: ServerConnection) -> None:
        asked = streams.hears(ws)["id"]
        away = {"code": "not_ready", "message": "away", "retryable": True, "retry_after_ms": 10}
        say(ws, type="error", id=asked, topic_id="a", **away)
        streams.hears(ws)
        subscribed(ws, "a", 0)
        messages(ws, "a", 1)
        ws.recv()

    streams.scripts = [script]
    assert headgate("subscribe", "a", "--count", "1", "--url", streams.url).status == 0


def test_a_full_server_is_asked_again(headgate: Headgate, streams: Streams) -> None:
    streams.busy, streams.scripts = 1, [gives(streams, 1)]
    assert headgate("subscribe", "a", "--count", "1", "--url", streams.url).status == 0


def test_control_c_is_a_good_end(headgate: Headgate, streams: Streams) -> None:
    streams.scripts = [gives(streams, 1)]
    with headgate.start("subscribe", "a", "--url", streams.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["seq"] == 1
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
        assert process.stderr.read() == b""


def test_a_reader_that_goes_away_is_a_good_end(headgate: Headgate, streams: Streams) -> None:
    streams.scripts = [gives(streams, *range(1, 100_000))]
    with headgate.start("subscribe", "a", "--url", streams.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_no_server(headgate: Headgate) -> None:
    done = headgate("subscribe", "a", "--url", "http://127.0.0.1:9")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert "http://127.0.0.1:9" in done.err


def test_a_member_of_a_group_acknowledges_what_it_prints(headgate: Headgate, streams: Streams) -> None:
    def script(ws: ServerConnection) -> None:
        streams.hears(ws)
        subscribed(ws, "a", 0, group="w")
        messages(ws, "a", 1, 4)
        while streams.hears(ws)["seq"] != 4:
            pass

    streams.scripts = [script]
    done = headgate("subscribe", "a", "--group", "w", "--ack", "--count", "2", "--url", streams.url)
    assert (done.status, seqs(done.lines)) == (0, [1, 4])
    asked, *acks = streams.heard[0]
    assert (asked["group"], asked["ack"], asked["from"]) == ("w", True, "cursor")
    assert {frame["type"] for frame in acks} == {"ack"} and acks[-1]["seq"] == 4


@pytest.mark.parametrize("wrong", [["w"], ["", "--ack"], ["x" * 129, "--ack"]])
def test_a_group_has_a_name_and_needs_ack(headgate: Headgate, streams: Streams, wrong: list[str]) -> None:
    done = headgate("subscribe", "a", "--url", streams.url, "--group", *wrong)
    assert done.status == 2 and "--group" in done.err
