"""Requests over HTTP: sent again where that is safe and may help, each attempt under the same id."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import httpx

from headgate_client.credentials import Credential, Credentials
from headgate_client.errors import ClientError, CredentialsFailed, Problem, Unreachable
from headgate_client.frames import encode
from headgate_client.reconnection import Backoff

TIMEOUT_S: Final = 30.0  # the server answers 504 after 7 s; the rest is for a slow network
PATIENCE_S: Final = 60.0
FIRST_WAIT_S: Final = 0.25
AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
SAFE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
NDJSON: Final = "application/x-ndjson"
_log = logging.getLogger("headgate_client")


class Api:
    """The HTTP API at one or more base URLs; where one does not answer, the next is asked."""

    def __init__(
        self, urls: Sequence[str], credentials: Credentials, headers: dict[str, str], *, patience_s: float = PATIENCE_S,
        trust_env: bool = True, transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        """`patience_s`: how long a request is tried again before its last failure is raised."""
        self._urls = [url.rstrip("/") for url in urls]
        self._at = 0
        self._credentials = credentials
        self._headers = {"Accept": "application/json", **headers}
        self._patience_s = patience_s
        self._trust_env = trust_env
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Closes the connections; a later request opens others."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, Any] | None = None,
        key: str | None = None,
        safe: bool = False,
    ) -> Any:
        """Does one request, and repeats it while it may still succeed. Returns the decoded body, None without one.

        A str `body` is NDJSON, anything else is sent as JSON. `params` that are None are left out. A POST or PATCH is
        repeated only with `key` (its `Idempotency-Key`), or where the caller says that it is `safe`. Raises Problem,
        Unreachable, CredentialsFailed.
        """
        safe = safe or key is not None or method in SAFE
        backoff = Backoff(random.random, FIRST_WAIT_S)
        deadline = time.monotonic() + self._patience_s
        renewed = False
        while True:
            used: Credential | None = None
            try:
                used = await self._credentials.get()
                return await self._once(method, path, body, params, key, used)
            except (Problem, Unreachable, CredentialsFailed) as error:
                self._at += isinstance(error, Unreachable)
                if _status(error) == 401 and not renewed and self._credentials.refused(used):
                    renewed = True
                    continue
                if not _may_repeat(error, safe):
                    raise
                failure: ClientError = error
            wait = backoff.next_s(retry_after_ms(failure) if isinstance(failure, Problem) else None)
            if time.monotonic() + wait > deadline:
                raise failure
            _log.info("%s %s: %s; again in %.1f s", method, path, failure, wait)
            await asyncio.sleep(wait)

    async def _once(
        self, method: str, path: str, body: Any, params: dict[str, Any] | None, key: str | None, used: Credential | None
    ) -> Any:
        headers = dict(self._headers)
        if used is not None:
            headers["Authorization"] = f"Bearer {used.text}"
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None
        if body is not None:
            headers["Content-Type"] = NDJSON if isinstance(body, str) else "application/json"
            content = (body if isinstance(body, str) else encode(body)).encode("utf-8", "surrogatepass")
        query = {name: value for name, value in (params or {}).items() if value is not None}
        base = self._urls[self._at % len(self._urls)]
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=TIMEOUT_S, trust_env=self._trust_env, transport=self._transport, follow_redirects=False
            )
        try:
            answer = await self._http.request(method, base + path, content=content, params=query, headers=headers)
        except httpx.TransportError as error:
            raise Unreachable(f"{base}: {type(error).__name__} {error}".rstrip()) from error
        if 200 <= answer.status_code < 300:
            return answer.json() if answer.content else None
        raise problem_of(answer)


def _status(error: ClientError) -> int | None:
    return error.status if isinstance(error, Problem) else None


def _may_repeat(error: ClientError, safe: bool) -> bool:
    """Whether a request may be sent again after a failure, and that may help."""
    if isinstance(error, CredentialsFailed):
        return error.may_help  # nothing was sent
    if isinstance(error, Problem):
        return error.retryable and (safe or error.status in (429, 503))
    return safe


def topic_path(topic_id: str, rest: str = "") -> str:
    """Returns the path of a topic."""
    return f"/api/v1/topics/{quote(topic_id, safe='')}{rest}"


def problem_of(answer: httpx.Response) -> Problem:
    """Returns the problem of an answer. Where a proxy answered, it is made of the status."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "code" not in body:
        body = {"detail": " ".join(answer.text[:200].split())}
    after_s = answer.headers.get("Retry-After", "")
    if after_s.isdigit():
        body.setdefault("retry_after_ms", int(after_s) * 1_000)
    return Problem(answer.status_code, body)


def retry_after_ms(problem: Problem) -> int | None:
    """Returns how long the server asked to wait."""
    found = problem.body.get("retry_after_ms")
    return found if isinstance(found, int) else None
