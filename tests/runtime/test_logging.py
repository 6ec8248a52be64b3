"""docs/protocol.md, section 1: no log line contains a token or ticket. Where nobody watches, log lines are JSON."""

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from headgate.runtime.logging import RateLimit, configure, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    configure(role="gateway", stream=out)
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_ours_and_the_libraries_lines_are_json_with_the_role(stream: io.StringIO) -> None:
    structlog.get_logger("headgate.test").info("started", port=8081)
    logging.getLogger("some.library").warning("odd %s", "thing")
    ours, theirs = lines(stream)
    assert (ours["event"], ours["port"], ours["level"], ours["role"]) == ("started", 8081, "info", "gateway")
    assert (theirs["event"], theirs["logger"]) == ("odd thing", "some.library")


@pytest.mark.parametrize(
    "text",
    [
        f"GET /ws/subscribe?topic_id=a&token={JWT} HTTP/1.1",
        f"ws://h:1/sse/subscribe?ticket={JWT}",
        f"Authorization: Bearer {JWT}",
        f"headgate.v1, bearer.{JWT}",
        f"token={JWT}; ticket={JWT}",
        f"somewhere {JWT} alone",
        f"authorization: 'Bearer  {JWT}'",
        f"{{'token': '{JWT}'}}",
        f'{{"token":"{JWT}"}}',
        f'{{\\"access_token\\": \\"{JWT}\\"}}',
        "password='c2lnbmF0dXJl'",
        "client_secret = c2lnbmF0dXJl",
        '{"ticket" : "c2lnbmF0dXJl"}',
        "Authorization: Basic c2lnbmF0dXJl",
        "http://me:c2lnbmF0dXJl@broker:9092/x",
        "kafka://me:c2lnbmF0dXJl@broker:9092",
        "GET /x?a=1&sig=c2lnbmF0dXJl HTTP/1.1",
        "https://h/x?password=c2lnbmF0dXJl#part",
    ],
)
def test_no_token_or_ticket_survives(stream: io.StringIO, text: str) -> None:
    assert "c2lnbmF0dXJl" not in redact(text)
    logger = structlog.get_logger("headgate.test")
    logger.info(text, url=text, parts=[text], more={"deep": text}, token="plain-secret", ticket="plain-secret")
    try:
        raise ValueError(text)
    except ValueError as error:
        logger.exception("failed", error=error)
    logging.getLogger("uvicorn.error").error("refused %s", text)
    assert len(lines(stream)) == 3
    assert "c2lnbmF0dXJl" not in stream.getvalue()
    assert "plain-secret" not in stream.getvalue()


def test_questions_stay_readable() -> None:
    assert redact("is the owner away? yes: GET /api/v1/topics") == "is the owner away? yes: GET /api/v1/topics"


@pytest.mark.parametrize(
    "text",
    [
        "headgate ingest needs auth.secret: it checks tokens",
        "a token: what for? nobody knows",
        "node-1:8090 does not answer",
        "is it? no=yes",
        "2026-11-26T10:00:00 shard 3: owner lost",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece",
    ["/", "?", "?a", "a?", "eyJ", "eyJ-", "eyJa.", "token", "token=", "'token':", "bearer ", "authorization:", "//a:",
     "//:", "password ", '"', "\\", "=", " ", "@", "//a:b@"],
)  # fmt: skip
def test_a_long_line_is_redacted_in_time_that_grows_with_it(piece: str) -> None:
    """16,000 slashes took 5.5 s of everybody's loop."""
    text = piece * (200_000 // len(piece))
    begin = time.process_time()
    redact(text)
    assert time.process_time() - begin < 1.0


def test_uvicorns_access_log_is_off(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.access").info("GET /x?token=1")
    assert stream.getvalue() == ""


def test_a_library_that_repeats_itself_is_heard_now_and_then() -> None:
    now = [0.0]
    limit = RateLimit(("aiokafka",), 10.0, lambda: now[0])

    def passes(name: str, message: str) -> bool:
        return limit.filter(logging.LogRecord(name, logging.ERROR, "", 1, message, (), None))

    assert passes("aiokafka.cluster", "Topic %s not found")
    assert not passes("aiokafka.cluster", "Topic %s not found")
    assert passes("aiokafka.cluster", "something else")
    assert passes("headgate.x", "mine") and passes("headgate.x", "mine")
    now[0] = 10.0
    record = logging.LogRecord("aiokafka.cluster", logging.ERROR, "", 1, "Topic %s not found", ("t",), None)
    assert limit.filter(record)
    assert record.getMessage() == "Topic t not found (1 more like it since the last)"


def test_strangers_do_not_fill_the_log(stream: io.StringIO) -> None:
    for _ in range(500):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert len(lines(stream)) == 1


def test_an_unexpected_error_is_never_left_out(stream: io.StringIO) -> None:
    for _ in range(3):
        try:
            raise ValueError("odd")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert len(lines(stream)) == 3
