"""A small HTTP client for commands, on one connection at a time; it sends the bearer token and reads problems."""

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from headgate.cli.invocation import CommandFailed
from headgate.runtime.settings import Settings

TIMEOUT_S: Final = 30.0  # the server answers 504 after 7 s; the rest is for a slow network
NDJSON: Final = "application/x-ndjson"
_JSON: Final = "application/json"
_STALE: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Unreachable(CommandFailed):
    """No server, or a connection that was lost. `connected` says whether the request may have arrived."""

    def __init__(self, url: str, why: str, *, connected: bool) -> None:
        super().__init__(f"{'lost' if connected else 'cannot reach'} {url}: {why}")
        self.connected = connected


class ServerRefused(CommandFailed):
    """An answer that is not 2xx, in one line. `retry_after_ms` is None where it names no time."""

    def __init__(self, answer: "Answer") -> None:
        problem = answer.problem()
        super().__init__(f"{answer.status} {problem['code']}: {problem.get('detail', '')}")
        self.status = answer.status
        self.retry_after_ms = int(1_000 * answer.retry_after_s) or None


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: Message
    body: bytes

    def problem(self) -> dict[str, Any]:
        """Returns the problem of an answer that is not 2xx. Where a proxy answered, it is made of the status."""
        try:
            found = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None
        if isinstance(found, dict) and "code" in found:
            return found
        detail = self.body[:200].decode("utf-8", "replace").strip() or "an answer without a body"
        return {"status": self.status, "code": f"http_{self.status}", "detail": " ".join(detail.split())}

    @property
    def retry_after_s(self) -> float:
        """The seconds of the header Retry-After; 0 without one."""
        text = self.headers.get("Retry-After", "")
        return float(text) if text.isascii() and text.isdigit() else 0.0


class Client:
    """Requests to one server, closed at the end of a `with`. Not for concurrent use."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        parts = urlsplit(url)
        self._base = parts.path.rstrip("/")
        self._headers = {"User-Agent": "headgate-cli", "Accept": _JSON}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection = _connection(parts.scheme, parts.hostname or "", parts.port)
        self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Returns a client of `client.url` with `client.token`."""
        return cls(settings.client.url, token_of(settings))

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Answer:
        """Asks. `query` values that are None are left out. Raises Unreachable."""
        kept = {name: value for name, value in (query or {}).items() if value is not None}
        return self._request("GET", f"{path}?{urlencode(kept)}" if kept else path, None, {})

    def lines(self, path: str, query: Mapping[str, list[str]]) -> Iterator[bytes]:
        """Yields the lines of a stream as they come. Raises Unreachable, ServerRefused.

        A server says something every 15 seconds; one that is silent for TIMEOUT_S is lost.
        """
        self.close()
        try:
            self._connection.connect()
        except OSError as error:
            raise Unreachable(self.url, _why(error), connected=False) from None
        try:
            target = f"{self._base}{path}?{urlencode(query, doseq=True)}"
            self._connection.request("GET", target, None, self._headers | {"Accept": "text/event-stream"})
            response = self._connection.getresponse()
            if response.status >= 300:
                accepted(Answer(response.status, response.headers, response.read()))
            while line := response.readline():
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self.url, _why(error), connected=True) from None
        finally:
            self.close()

    def post(self, path: str, body: bytes, content_type: str = _JSON) -> Answer:
        """Posts; a stale connection is opened once more. Raises Unreachable."""
        return self._request("POST", path, body, {"Content-Type": content_type})

    def put(self, path: str, body: bytes) -> Answer:
        """Puts. Raises Unreachable."""
        return self._request("PUT", path, body, {"Content-Type": _JSON})

    def patch(self, path: str, body: bytes) -> Answer:
        """Patches. Raises Unreachable."""
        return self._request("PATCH", path, body, {"Content-Type": _JSON})

    def delete(self, path: str) -> Answer:
        """Deletes. Raises Unreachable."""
        return self._request("DELETE", path, None, {})

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        self._connection.close()
        self._used = False

    def _request(self, method: str, path: str, body: bytes | None, extra: dict[str, str]) -> Answer:
        for _ in range(2):
            reused = self._used
            try:
                return self._once(method, path, body, extra)
            except _STALE as error:
                self.close()
                if not reused:
                    raise Unreachable(self.url, _why(error), connected=True) from None
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise Unreachable(self.url, _why(error), connected=True) from None
        raise Unreachable(self.url, "it closed the connection twice", connected=True)

    def _once(self, method: str, path: str, body: bytes | None, extra: dict[str, str]) -> Answer:
        if not self._used:
            try:
                self._connection.connect()
            except OSError as error:
                raise Unreachable(self.url, _why(error), connected=False) from None
        self._used = True
        self._connection.request(method, self._base + path, body, self._headers | extra)
        response = self._connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        if response.will_close:
            self.close()
        return answer


def token_of(settings: Settings) -> str | None:
    """Returns the token commands present."""
    token = settings.client.token
    return None if token is None else token.get_secret_value()


def topic_path(topic_id: str, rest: str = "") -> str:
    """Returns the path of a topic."""
    return f"/api/v1/topics/{quote(topic_id, safe='')}{rest}"


def accepted(answer: Answer) -> bytes:
    """Returns the body of a 2xx answer. Raises ServerRefused."""
    if 200 <= answer.status < 300:
        return answer.body
    raise ServerRefused(answer)


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


def _why(error: Exception) -> str:
    if isinstance(error, socket.timeout):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
        return "it closed the connection without an answer"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
