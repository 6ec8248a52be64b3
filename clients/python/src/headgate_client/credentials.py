"""Tokens and tickets: given once, or fetched by a function of the application whenever a new one is due."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from headgate_client.errors import CredentialsFailed

LEAD_S: Final = 60.0  # a token is renewed so long before it expires,
LEAD_PART: Final = 0.2  # but a short one not before so much of its life is left
PAUSE_S: Final = 5.0  # after a fetch that failed, while the present token is still good
_log = logging.getLogger("headgate_client")


class Ticket(NamedTuple):
    """A ticket (`POST /api/v1/tickets`). It opens streams only, and a WebSocket cannot renew it."""

    text: str


Fetch = Callable[[], Awaitable["str | Ticket"]]


class Credential(NamedTuple):
    """What is presented. `renew_at` and `expires_at` are Unix seconds, None where nothing says so."""

    text: str
    is_ticket: bool = False
    renew_at: float | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:
        return "Credential(***)"


class Credentials:
    """Gives the present credential. `fetch` is asked once at a time, and not again before a token is due."""

    def __init__(
        self,
        fetch: Fetch | None = None,
        *,
        token: str | None = None,
        ticket: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if sum(given is not None for given in (fetch, token, ticket)) > 1:
            raise ValueError("token, ticket and credentials are given together: one is enough")
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._now: Credential | None = None
        self._again_at = 0.0  # a due token is not renewed before
        if token is not None:
            self._now = credential(token, clock())
        elif ticket is not None:
            self._now = Credential(ticket, is_ticket=True)

    @property
    def can_renew(self) -> bool:
        """Whether there is a function to ask."""
        return self._fetch is not None

    @property
    def renew_in_s(self) -> float | None:
        """Seconds until the present token is due, None where it never is."""
        if self._fetch is None or self._now is None or self._now.renew_at is None:
            return None
        return max(self._now.renew_at - self._clock(), 0.0)

    async def get(self, *, streams: bool = False) -> Credential | None:
        """Returns the credential to present, None where there is none (open mode). Raises CredentialsFailed.

        `streams`: a ticket will do; it is fetched for each connection, because it can be used once.
        """
        async with self._lock:
            if self._fetch is not None and (self._now is None or self._is_due(self._now)):
                await self._renew()
            found = self._now
        if found is not None and found.is_ticket and not streams:
            raise CredentialsFailed("a ticket opens streams only; requests over HTTP need a token", may_help=False)
        return found

    def refused(self, used: Credential | None) -> bool:
        """The server refused a credential. Returns whether another one can be fetched."""
        if self._fetch is None:
            return False
        if self._now == used:
            self._now = None
        return True

    def _is_due(self, known: Credential) -> bool:
        if known.is_ticket or known.renew_at is None or known.expires_at is None:
            return known.is_ticket
        now = self._clock()
        return now >= known.expires_at or now >= max(known.renew_at, self._again_at)

    async def _renew(self) -> None:
        """Fetches another one. Where that fails, one that has not expired yet is kept."""
        try:
            self._now = await self._fetched()
        except CredentialsFailed as error:
            now = self._clock()
            if self._now is None or self._now.expires_at is None or self._now.expires_at <= now:
                raise
            self._again_at = now + PAUSE_S
            _log.warning("%s; the present token is good for %.0f s more", error, self._now.expires_at - now)

    async def _fetched(self) -> Credential:
        assert self._fetch is not None
        try:
            given = await self._fetch()
        except Exception as error:
            raise CredentialsFailed(f"the function for credentials failed: {type(error).__name__}: {error}") from error
        if isinstance(given, Ticket):
            return Credential(given.text, is_ticket=True)
        if not isinstance(given, str):
            kind = type(given).__name__
            raise CredentialsFailed(f"the function for credentials returned {kind}, not a token", may_help=False)
        return credential(given, self._clock())


def credential(token: str, now: float) -> Credential:
    """Returns a token with the time at which it is due, where it is a JWT that says when it expires."""
    expires_at = expiry(token)
    if expires_at is None:
        return Credential(token)
    lead = min(LEAD_S, max(expires_at - now, 0.0) * LEAD_PART)
    return Credential(token, renew_at=expires_at - lead, expires_at=expires_at)


def expiry(token: str) -> float | None:
    """Returns the claim `exp` of a JWT, unverified: only the server decides. None where there is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    found = claims.get("exp") if isinstance(claims, dict) else None
    return float(found) if isinstance(found, int | float) else None
