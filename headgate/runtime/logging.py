"""Log lines on standard error, JSON or readable; knows what must never stand in one (tokens, tickets, queries)."""

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REPEAT_S: Final = 10.0  # aiokafka logs an unreachable broker or unknown topic many times a second
_SECRETS: Final = (
    (re.compile(r"(/[^\s?\"'<>]*)\?[^\s\"'<>]+"), r"\1"),  # the query of a URL or request line
    (re.compile(r"(?i)\b(bearer[ .]|(?:token|ticket|password|secret)=)[^\s\"',;&]+"), r"\1****"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "****"),  # a JWT wherever it stands
)
_NAMES: Final = frozenset({"token", "ticket", "authorization", "query", "query_string", "secret", "password"})


def configure(*, role: str, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends all log lines of the process, ours and the libraries', to `stream` (default: standard error).

    A terminal gets coloured text, everything else one JSON object a line. `role` stands in every line.
    """
    out = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _stamp(role),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(shared, readable=out.isatty()))
    handler.addFilter(RateLimit(("aiokafka",), REPEAT_S, time.monotonic))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "uvicorn.error", "websockets", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def redact(text: str) -> str:
    """Returns a text without queries, bearer tokens, tickets and JWTs."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class RateLimit(logging.Filter):
    """Lets one line of the same message through in `every_s` seconds, for loggers under the given names."""

    def __init__(self, names: tuple[str, ...], every_s: float, now: Callable[[], float]) -> None:
        super().__init__()
        self._names, self._every_s, self._now = names, every_s, now
        self._last: dict[tuple[str, str], float] = {}  # bounded by the messages in a library's source

    def filter(self, record: logging.LogRecord) -> bool:
        """Says whether the line is written."""
        if not record.name.startswith(self._names):
            return True
        key, now = (record.name, str(record.msg)), self._now()
        last = self._last.get(key)
        if last is not None and now - last < self._every_s:
            return False
        self._last[key] = now
        return True


def _stamp(role: str) -> Processor:
    def stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["role"] = role
        return event

    return stamp


def _formatter(shared: list[Processor], *, readable: bool) -> logging.Formatter:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redact,
            renderer,
        ],
    )


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: "****" if name.lower() in _NAMES else _clean(value) for name, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes | BaseException):
        return redact(str(value))
    if isinstance(value, dict):
        return {k: "****" if str(k).lower() in _NAMES else _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value]
    return value
