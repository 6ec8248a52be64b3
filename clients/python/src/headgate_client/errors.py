"""What a caller of the client may have to catch; all of it is a ClientError."""

from collections.abc import Sequence
from typing import Any


class ClientError(Exception):
    """Any error of this package. A mistake in an argument is a ValueError instead.

    Of a publish that failed, `client_msg_id` is the message's: to publish again under it makes no second message. Of a
    batch, `client_msg_ids` has those of all messages that were taken, in order, and `answers` what became of each: an
    answer or a Problem, None where nobody knows.
    """

    client_msg_id: str | None = None
    client_msg_ids: Sequence[str] = ()
    answers: Sequence[Any] = ()


class Unreachable(ClientError):
    """There was no answer from the server, for as long as the caller wanted to wait."""


class ConnectionStopped(ClientError):
    """The server ended the connection for good: a new one would end in the same way. `code` is the close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server ended the connection: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class CredentialsFailed(ClientError):
    """No token or ticket that can be used here. `may_help`: to ask for one again."""

    def __init__(self, why: str, *, may_help: bool = True) -> None:
        super().__init__(why)
        self.may_help = may_help


class SubscribeRefused(ClientError):
    """The server refused a subscription. `code` is an error code of the protocol, such as `forbidden`."""

    def __init__(self, topic_id: str, code: str, message: str) -> None:
        super().__init__(f"{topic_id}: {code}: {message}".rstrip(": "))
        self.topic_id = topic_id
        self.code = code
        self.message = message


class SubscriptionEnded(ClientError):
    """A subscription ended. `reason`: `ended`, `deleted`, `forbidden` or `replaced`."""

    def __init__(self, topic_id: str, reason: str) -> None:
        super().__init__(f"{topic_id}: the subscription ended ({reason})")
        self.topic_id = topic_id
        self.reason = reason


class RequestFailed(ClientError):
    """The server refused a frame that asked for an answer, or the connection was lost before it came."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}".rstrip(": "))
        self.code = code


class Problem(ClientError):
    """An HTTP answer that is not 2xx (RFC 9457). `body` has all members that the server sent."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.code = str(body.get("code") or f"http_{status}")
        self.detail = str(body.get("detail") or body.get("title") or "")
        self.body = body
        super().__init__(f"{status} {self.code}: {self.detail}".rstrip(": "))

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later. A gateway or proxy in between answers without a problem."""
        return bool(self.body.get("retryable", self.status in (408, 429, 500, 502, 503, 504)))
