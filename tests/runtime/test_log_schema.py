"""No log line has a field that docs/reference/logs.md does not have."""

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from headgate.core.delivery.lifecycle_events import Event
from headgate.runtime.logging import REQUEST_ID, configure
from headgate.runtime.tracing import TRACING

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "logs.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
OF_EVERY_LINE = {"timestamp", "level", "logger", "role", "event"}


def documented() -> set[str]:
    rows = [line.split("|")[1] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def written() -> set[str]:
    """Returns the keywords of all log calls in the sources; `exc_info` becomes `exception`."""
    found: set[str] = set()
    for folder in ("headgate", "ingest", "dispatcher", "gateway"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr in LEVELS
                    and isinstance(call.func.value, ast.Name)
                    and call.func.value.id in {"logger", "_log"}
                ):
                    found |= {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    return (found - {"exc_info"}) | {"exception"}


def test_the_page_has_the_fields_of_all_lines_and_no_others() -> None:
    of_events = set(Event.__struct_fields__) - {"event"}
    assert written() | of_events | OF_EVERY_LINE | {"request_id", "trace_id"} == documented()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()
    configure(role="ingest", stream=text)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_lines_of_a_request_name_it_and_its_trace(lines: io.StringIO) -> None:
    logging.getLogger("headgate.http").warning("before")
    request, trace = REQUEST_ID.set(b"r-7"), TRACING.set("0af7")
    structlog.get_logger("http").warning("ours")
    logging.getLogger("headgate.http").warning("a library's")
    REQUEST_ID.set(b"token\nforged")
    structlog.get_logger("http").warning("odd")
    REQUEST_ID.reset(request)
    TRACING.reset(trace)
    before, ours, library, odd = map(json.loads, lines.getvalue().splitlines())
    assert set(before) == OF_EVERY_LINE
    for line in (ours, library):
        assert set(line) == OF_EVERY_LINE | {"request_id", "trace_id"}
        assert (line["request_id"], line["trace_id"]) == ("r-7", "0af7")
    assert "request_id" not in odd
