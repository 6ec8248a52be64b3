"""Log lines on standard error, JSON or readable, without secrets: tokens, tickets and queries are masked."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from headgate.core.wire.ids import PRINTABLE_ASCII
from headgate.runtime.tracing import TRACING

REQUEST_ID: Final[ContextVar[bytes]] = ContextVar("request_id", default=b"")  # X-Request-Id, as it came
REMIND_S: Final = 60.0  # a fault that lasts is logged again this often
REPEAT_S: Final = 10.0
REPEATING: Final = (  # loggers that repeat a line many times a second while a broker is away, or for a stranger
    "aiokafka",
    "uvicorn.error",
)
_NAMED: Final = (  # `password=`, `'token': `, `\"secret\":\"`, with any text before the name
    r"(?i)((?:token|ticket|passwd|password|secret)(?:[ ]{0,8}=|[\\]?[\"'][ ]{0,8}:)[ ]{0,8}[\\\"']{0,4})"
)
_SECRETS: Final = (  # linear time: no pattern begins again inside the text that an earlier try has read
    (re.compile(r"(?i)(bearer[ .]{1,8})[^\s\"',;&]+"), r"\1****"),
    (re.compile(r"(?i)(authorization[\\\"']{0,4}[ ]{0,8}[=:])[^\"'\\;\r\n]*[\\\"']{0,4}[^\"'\\;\r\n]*"), r"\1 ****"),
    (re.compile(_NAMED + r"[^\s\"'\\,;&]+"), r"\1****"),
    (re.compile(r"\?[^\s\"'<>?]*=[^\s\"'<>]*"), ""),  # the query of a URL or request line
    (re.compile(r"(//[^\s/@:\"'<>]{0,256}):[^\s/@\"'<>]{1,1024}@"), r"\1:****@"),  # a URL's password
    (re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]*"), "****"),  # a JWT anywhere
)
_NAMES: Final = frozenset(
    (
        *("token", "ticket", "authorization", "cookie", "set-cookie", "query", "query_string"),
        *("secret", "password", "passwd", "access_token", "refresh_token", "client_secret", "sasl_plain_password"),
    )
)


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
        _add_request,
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
    handler.addFilter(RateLimit(REPEATING, REPEAT_S, time.monotonic))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "uvicorn.error", "websockets", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


@contextmanager
def configured(*, role: str) -> Iterator[None]:
    """Does what `configure` does until the end of the block, then restores the configuration before."""
    root = logging.getLogger()
    handlers, level, events = root.handlers[:], root.level, structlog.get_config()
    configure(role=role)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**events)


def redact(text: str) -> str:
    """Returns a text without queries, bearer tokens, tickets, passwords and JWTs, in linear time."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class Reminder:
    """Decides whether a fault that lasts is logged: at once, then every REMIND_S seconds for each `fault`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last: dict[str, float] = {}  # bounded by the faults that the owner of this object names

    def is_due(self, fault: str = "") -> bool:
        """Returns whether to log the fault now, and notes that it was."""
        now = self._now()
        last = self._last.get(fault)
        if last is not None and now - last < REMIND_S:
            return False
        self._last[fault] = now
        return True


class RateLimit(logging.Filter):
    """Lets one line of the same message through in `every_s` seconds, for loggers under the given names.

    The next one gives the number of those left out. An unexpected error (with a traceback) is never left out.
    """

    def __init__(self, names: tuple[str, ...], every_s: float, now: Callable[[], float]) -> None:
        super().__init__()
        self._names, self._every_s, self._now = names, every_s, now
        self._last: dict[tuple[str, str], float] = {}  # bounded by the messages in a library's source
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the line is written."""
        if not record.name.startswith(self._names) or record.exc_info:
            return True
        key, now = (record.name, str(record.msg)), self._now()
        last = self._last.get(key)
        if last is not None and now - last < self._every_s:
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return False
        self._last[key] = now
        left_out = self._left_out.pop(key, 0)
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like it since the last)"
        return True


def _stamp(role: str) -> Processor:
    def stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["role"] = role
        return event

    return stamp


def _add_request(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Names the request, and its trace, in the lines that are written while it is answered."""
    request_id, trace_id = REQUEST_ID.get().decode("latin-1"), TRACING.get()
    if PRINTABLE_ASCII.fullmatch(request_id):
        event.setdefault("request_id", request_id)
    if trace_id:
        event["trace_id"] = trace_id
    return event


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
