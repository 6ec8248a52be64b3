"""`headgate events`: what it asks, what it prints, and when it connects again."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import Headgate

FAILED = b'{"event":"failed","at":1.5,"topic":"t","id":"m","subscriber":"ann","attempts":2,"status":"FAILED","seq":4}'
EVENT = b"data: %b\n\n" % FAILED
GAP = b'event: gap\ndata: {"event":"gap","reason":"slow","count":3}\n\n'
DRAINING = b'event: disconnect\ndata: {"type":"disconnect","code":4601,"reason":"draining","reconnect":true}\n\n'
REVOKED = b'event: disconnect\ndata: {"type":"disconnect","code":4401,"reason":"unauthenticated","reconnect":false}\n\n'


class Events:
    """A server whose streams are those of `script`, one a request; above them 403."""

    def __init__(self) -> None:
        self.script: list[bytes | int] = []  # a status in place of a stream
        self.asked: list[str] = []
        events = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                events.asked.append(self.path)
                stream = events.script.pop(0) if events.script else None
                status = stream if isinstance(stream, int) else 403 if stream is None else 200
                self.send_response(status)
                if status == 503:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(stream if isinstance(stream, bytes) else b'{"code":"forbidden","detail":"for admins"}')

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def events() -> Iterator[Events]:
    found = Events()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_events_and_gaps_are_one_json_object_a_line_and_the_filters_are_asked_for(
    headgate: Headgate, events: Events
) -> None:
    events.script = [b"retry: 1500\n\n" + EVENT + b":\n\n" + GAP + EVENT]
    arguments = ("--topic", "t", "--topic", "u", "--event", "failed", "--count", "2")
    done = headgate("events", *arguments, "--url", events.url)
    assert done.status == 0
    assert [line["event"] for line in done.lines] == ["failed", "gap", "failed"]
    assert events.asked == ["/api/v1/events?topic_id=t&topic_id=u&event=failed"]


def test_a_person_reads_one_line_an_event(headgate: Headgate, events: Events) -> None:
    events.script = [GAP + EVENT]
    done = headgate.on_terminal("events", "--count", "1", "--url", events.url)
    assert done.out == "gap  3  slow\n1970-01-01T00:00:01.500Z  failed  t  #4  ann  attempt 2\n"


def test_without_follow_the_end_of_the_stream_is_the_end(headgate: Headgate, events: Events) -> None:
    events.script = [EVENT + DRAINING]
    done = headgate("events", "--url", events.url)
    assert (done.status, len(done.lines)) == (1, 1)
    assert "4601 draining" in done.err


def test_follow_goes_on_after_an_end_that_heals_and_stops_after_one_that_does_not(
    headgate: Headgate, events: Events
) -> None:
    events.script = [EVENT + DRAINING, EVENT, EVENT + REVOKED, EVENT]
    done = headgate("events", "--follow", "--url", events.url)
    assert (done.status, len(done.lines)) == (1, 3)
    assert "4401 unauthenticated" in done.err


def test_follow_waits_out_a_proxy_that_has_no_server(headgate: Headgate, events: Events) -> None:
    events.script = [b": quiet\n\n", 502, 503, 500, EVENT + REVOKED]
    began = time.monotonic()
    done = headgate("events", "--follow", "--url", events.url)
    assert (done.status, len(done.lines), len(events.asked)) == (1, 1, 5), done.err
    assert "4401 unauthenticated" in done.err
    assert time.monotonic() - began >= 1, "Retry-After is honoured"


@pytest.mark.parametrize(("follow", "script"), [(("--follow",), [502]), (("--follow",), [EVENT, 404]), ((), [502])])
def test_what_does_not_heal_or_never_was_there_ends_it(
    headgate: Headgate, events: Events, follow: tuple[str, ...], script: list[bytes | int]
) -> None:
    events.script = [*script, EVENT]
    assert headgate("events", *follow, "--url", events.url).status == 1
    assert len(events.asked) == len(script)


def test_a_refusal_is_one_line_and_a_bad_filter_a_wrong_command(headgate: Headgate, events: Events) -> None:
    done = headgate("events", "--follow", "--url", events.url)
    assert (done.status, done.out, done.err) == (1, "", "403 forbidden: for admins\n")
    assert headgate("events", "--event", "exploded", "--url", events.url).status == 2
    assert headgate("events", "--topic", "~", "--url", events.url).status == 2
