"""`headgate publish`: one line a message, order kept, nothing doubled, 429 and 503 waited out."""

import json
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Headgate
from tests.cli.twin import Twin, problem, refusal


def test_one_payload(headgate: Headgate, twin: Twin) -> None:
    done = headgate("publish", "orders", '{"price": 1.10}', "--url", twin.url, "--token", "abc")
    assert (done.status, done.err) == (0, "")
    (line,) = done.lines
    assert (line["topic_id"], line["status"]) == ("orders", 200)
    method, path, headers, body = twin.requests[0]
    assert (method, path) == ("POST", "/api/v1/topics/orders/publish/batch")
    assert headers["Authorization"] == "Bearer abc"
    assert b'"payload":{"price": 1.10}' in body, "the text of the payload is the publisher's"


@pytest.mark.parametrize("payload", ["{", "", "nope", "1 2", "NaN", "[" * 70 + "]" * 70])
def test_a_payload_that_is_not_json_is_a_wrong_command(at_once: Command, twin: Twin, payload: str) -> None:
    done = at_once("publish", "t", payload, "--url", twin.url)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert twin.requests == []


@pytest.mark.parametrize("words", [(), ("t",), ("t", "1", "2"), ("t", "1", "--file", "f"), ("--topic-field", "a")])
def test_a_wrong_command(at_once: Command, words: tuple[str, ...]) -> None:
    done = at_once("publish", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)


def test_lines_of_a_file_keep_their_order_in_batches(headgate: Headgate, twin: Twin, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("".join(f"{n}\n" for n in range(2_500)))
    done = headgate("publish", "t", "--file", "f", "--url", twin.url)
    assert done.status == 0
    assert twin.messages["t"] == list(range(2_500))
    assert len(done.lines) == 2_500
    assert [body.count(b"\n") + 1 for *_, body in twin.requests] == [1_000, 1_000, 500]


def test_standard_input_with_blank_lines_and_no_last_newline(headgate: Headgate, twin: Twin) -> None:
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b'1\r\n\n  \n"\\ud800"\n{"a":1}')
    assert done.status == 0
    assert twin.messages["t"] == [1, "\ud800", {"a": 1}]


def test_a_slow_pipe_is_not_held_up(headgate: Headgate, twin: Twin) -> None:
    with headgate.start("publish", "t", "-", "--url", twin.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(3):
            process.stdin.write(b"%d\n" % n)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["status"] == 200
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_field_names_the_topic_and_the_line_is_the_payload(headgate: Headgate, twin: Twin) -> None:
    lines = b'{"sym":"A","n":1}\n{"sym":"B","n":2}\n{"sym":"A","n":3}\n{"n":4}\n{"sym":5}\n7\n'
    done = headgate("publish", "--topic-field", "sym", "-", "--url", twin.url, stdin=lines)
    assert done.status == 1
    assert twin.messages == {"A": [{"sym": "A", "n": 1}, {"sym": "A", "n": 3}], "B": [{"sym": "B", "n": 2}]}
    assert [line["status"] for line in done.lines] == [200, 200, 200, 400, 400, 400]
    assert "line 4" in done.lines[3]["detail"]


def test_bad_lines_are_problems_in_their_place(headgate: Headgate, twin: Twin) -> None:
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b'1\n{oops\n\xff\n1,"priority":"LOW"\n2\n')
    assert done.status == 1
    assert [line["status"] for line in done.lines] == [200, 400, 400, 400, 200]
    assert twin.messages["t"] == [1, 2]


def test_a_refused_line_harms_no_other(headgate: Headgate, twin: Twin) -> None:
    twin.refuse = lambda _, payload: refusal(413, "too_large") if payload == 2 else None
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b"1\n2\n3\n")
    assert done.status == 1
    assert [line["status"] for line in done.lines] == [200, 413, 200]


def test_a_refused_batch_is_a_problem_a_line(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(404, "topic_not_found"))
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b"1\n2\n")
    assert done.status == 1
    assert [line["code"] for line in done.lines] == ["topic_not_found"] * 2
    assert len(twin.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_batch_is_sent_again_when_the_server_says_so(headgate: Headgate, twin: Twin, status: int) -> None:
    twin.next(refusal(status, "overloaded", retry_after=1))
    began = time.monotonic()
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b"1\n2\n")
    assert time.monotonic() - began >= 1.0, "Retry-After is honoured"
    assert (done.status, twin.messages["t"]) == (0, [1, 2])


def test_only_the_items_that_wait_are_sent_again(headgate: Headgate, twin: Twin) -> None:
    limited = {2, 3}

    def refuse(_: str, payload: int) -> tuple[int, dict[str, str], dict[str, object]] | None:
        if payload not in limited:
            return None
        limited.discard(payload)
        return 429, {}, problem(429, "rate_limited", "slowly", retry_after_ms=10)

    twin.refuse = refuse
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b"1\n2\n3\n")
    assert (done.status, twin.messages["t"]) == (0, [1, 2, 3])
    assert [line["status"] for line in done.lines] == [200, 200, 200]
    assert [body.count(b"\n") + 1 for *_, body in twin.requests] == [3, 2]


def test_a_batch_whose_answer_is_lost_is_not_doubled(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(504, "outcome_unknown"), after=True)
    twin.next(None, after=True)
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b"1\n2\n")
    assert (done.status, twin.messages["t"]) == (0, [1, 2])
    bodies = [body for *_, body in twin.requests]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1, "the same ids each time"


def test_a_server_with_smaller_batches(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(413, "too_large"))
    done = headgate("publish", "t", "-", "--url", twin.url, stdin=b"1\n2\n3\n4\n5\n")
    assert (done.status, twin.messages["t"]) == (0, [1, 2, 3, 4, 5])


def test_no_server(headgate: Headgate) -> None:
    done = headgate("publish", "t", "1", "--url", "http://127.0.0.1:9")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert "http://127.0.0.1:9" in done.err


def test_no_file(headgate: Headgate, twin: Twin) -> None:
    done = headgate("publish", "t", "--file", "nowhere", "--url", twin.url)
    assert (done.status, done.out) == (1, "")
    assert "nowhere" in done.err


def test_a_folder_is_no_file(headgate: Headgate, twin: Twin, tmp_path: Path) -> None:
    done = headgate("publish", "t", "--file", str(tmp_path), "--url", twin.url)
    assert (done.status, done.out) == (1, "")
    assert done.err == f"cannot read {tmp_path}: Is a directory\n"
    assert twin.requests == []


def test_usage_shows_the_words_in_their_order(at_once: Command) -> None:
    assert "Usage: headgate publish [OPTIONS] [TOPIC] [PAYLOAD|-] " in at_once("publish", "--help").out
