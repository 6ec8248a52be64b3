"""PROTOCOL section 1: no log line contains a token or ticket. Where nobody watches, log lines are JSON."""

import io
import json
import logging
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
    assert passes("aiokafka.cluster", "Topic %s not found")
