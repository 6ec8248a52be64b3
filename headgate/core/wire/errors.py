"""The table of error codes (docs/protocol.md, section 6), and the errors that every layer raises."""

import enum
from typing import Any, Final, NamedTuple


class ErrorCode(NamedTuple):
    """What the protocol promises about one code."""

    status: int
    retryable: bool
    title: str


CODES: Final[dict[str, ErrorCode]] = {
    "bad_request": ErrorCode(400, False, "Bad request"),
    "bad_frame": ErrorCode(400, False, "Bad frame"),
    "unknown_type": ErrorCode(400, False, "Unknown frame type"),
    "invalid_topic_id": ErrorCode(400, False, "Invalid topic id"),
    "invalid_payload": ErrorCode(400, False, "Invalid payload"),
    "unauthenticated": ErrorCode(401, False, "Unauthenticated"),
    "token_expired": ErrorCode(401, False, "Token expired"),
    "forbidden": ErrorCode(403, False, "Forbidden"),
    "topic_not_found": ErrorCode(404, False, "Topic not found"),
    "message_not_found": ErrorCode(404, False, "Message not found"),
    "not_found": ErrorCode(404, False, "Not found"),
    "method_not_allowed": ErrorCode(405, False, "Method not allowed"),
    "request_timeout": ErrorCode(408, True, "Request timeout"),
    "topic_exists": ErrorCode(409, False, "Topic exists"),
    "version_conflict": ErrorCode(409, False, "Version conflict"),
    "already_subscribed": ErrorCode(409, False, "Already subscribed"),
    "last_owner": ErrorCode(409, False, "Last owner"),
    "gone": ErrorCode(410, False, "Gone"),
    "too_large": ErrorCode(413, False, "Too large"),
    "unsupported_media_type": ErrorCode(415, False, "Unsupported media type"),
    "misdirected": ErrorCode(421, False, "Misdirected"),
    "idempotency_conflict": ErrorCode(422, False, "Idempotency conflict"),
    "not_in_profile": ErrorCode(422, False, "Not in the topic's profile"),
    "immutable": ErrorCode(422, False, "Immutable"),
    "rate_limited": ErrorCode(429, True, "Rate limited"),
    "queue_full": ErrorCode(429, True, "Queue full"),
    "limit_reached": ErrorCode(429, True, "Limit reached"),
    "internal": ErrorCode(500, True, "Internal error"),
    "log_unavailable": ErrorCode(503, True, "Log unavailable"),
    "not_ready": ErrorCode(503, True, "Not ready"),
    "overloaded": ErrorCode(503, True, "Overloaded"),
    "topic_paused": ErrorCode(503, True, "Topic paused"),
    "outcome_unknown": ErrorCode(504, True, "Outcome unknown"),
}


class HeadgateError(Exception):
    """Root of Headgate's own errors; foreign errors never inherit from it."""


class Refusal(HeadgateError):
    """A request that is answered with one of the protocol's codes.

    `detail` is one sentence that names what was seen and what was expected. `extra` are further members of the answer
    (for instance `first_seq` of a 410); `retry_after_ms` is in milliseconds and only for retryable codes.
    """

    def __init__(self, code: str, detail: str, *, retry_after_ms: int | None = None, **extra: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.extra = extra

    @property
    def status(self) -> int:
        """The HTTP status of this code."""
        return CODES[self.code].status

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return CODES[self.code].retryable


class IllegalTransition(HeadgateError):
    """A step that a state machine's table does not have, or that comes too early; nothing was changed.

    Every table raises it (a delivery, a breaker, a circuit): `state` is where it was, `step` what was asked of it.
    """

    def __init__(self, state: enum.Enum, step: enum.Enum, why: str = "the table has no such step") -> None:
        super().__init__(f"{type(state).__name__} {state.value}: {step.value!r} is illegal: {why}")
        self.state = state
        self.step = step


class CorruptRecord(HeadgateError):
    """Bytes that carry our magic and do not decode; the record is a dead letter."""


class UnknownVersion(HeadgateError):
    """A record of a major version this code does not know: the shard parks, skipping it would diverge."""


class BrokenChain(HeadgateError):
    """A snapshot chain with a missing, foreign or damaged chunk; another chain must be used.

    `at` is where the chunk stands in the snapshots log, -1 where it is not known.
    """

    def __init__(self, why: str, at: int = -1) -> None:
        super().__init__(why)
        self.at = at


class NewerSnapshot(HeadgateError):
    """A snapshot that newer code wrote: the shard parks until this node is upgraded, it never takes an older one."""
