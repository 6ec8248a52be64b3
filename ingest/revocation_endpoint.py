"""POST /api/v1/revocations: voids the tokens of a user, or one token, on every process."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_users import Revocation
from headgate.core.wire.records import LogName
from headgate.core.wire.revoked_tokens import MAX_REVOCATIONS, record_of
from headgate.runtime.http.call import NO_CONTENT, Call, Reply
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import AppendUnknown, Clock, Log, LogUnavailable
from headgate.runtime.token_claims import NO_JTI, NO_USER, is_jti, is_user_id
from headgate.runtime.tokens import Authenticator
from ingest.audit import AuditEntry, AuditLog
from ingest.keyed_operations import KeyedOperations

APPEND_S: Final = 6.0
TOLD_S: Final = 2.0  # from the log's acknowledgement; then a revocation is not effective as soon as it should be
TRIES: Final = 5
MAX_MS: Final = (1 << 53) - 1


class RevocationEndpoint:
    """The handler. It answers once the log has the revocation and a dispatcher has told of it.

    A dispatcher tells all its links at once, gateways and ingests: what came here is on its way to everybody.
    """

    def __init__(
        self,
        log: Log,
        directory: Directory,
        authenticator: Authenticator,
        keyed: KeyedOperations,
        clock: Clock,
        audit: AuditLog,
        *,
        most: int = MAX_REVOCATIONS,
    ) -> None:
        self._log = log
        self._directory = directory
        self._authenticator = authenticator
        self._keyed = keyed
        self._clock = clock
        self._audit = audit
        self._most = most
        self._news = asyncio.Event()

    def told(self, revocations: Sequence[Revocation]) -> None:
        """Takes what a dispatcher tells."""
        self._authenticator.revoke(revocations)
        self._news.set()
        self._news = asyncio.Event()

    async def create(self, call: Call) -> Reply:
        """Appends the revocation and waits until it counts. For callers with the claim `admin`."""
        with self._audit.operation(call, "revocation.create") as entry:
            await self._revoke(call, entry)
        return NO_CONTENT

    async def _revoke(self, call: Call, entry: AuditEntry) -> None:
        if not call.caller.admin or call.caller.only:
            raise Refusal("forbidden", "revocations are for tokens with the claim admin")
        revoked = self._authenticator.revoked
        body = call.json_object()
        wanted = self._revocation(body)
        entry.target = wanted.user_id
        entry.change = f"jti={wanted.jti}" if wanted.jti else ""
        keyed = self._keyed.read(call, "revocation", [wanted.user_id, wanted.jti, body.get("not_before")])
        if self._keyed.answer(call, "revocation") is not None:
            return  # tokens that were issued since then stay valid
        now_ms = self._clock.wall_ms()
        if 0 < wanted.until < now_ms:
            return  # all that it would void has expired
        if len(revoked) >= self._most:
            revoked.forget(now_ms)
        if len(revoked) >= self._most and not revoked.is_known(wanted):
            raise Refusal("limit_reached", f"{self._most} users and tokens are revoked: replace the secret instead")
        if not self._directory.has_links:
            raise Refusal("not_ready", "no dispatcher is linked that could tell the others", retry_after_ms=1_000)
        await self._append_until_newest(revoked.latest(wanted))
        self._keyed.add(keyed, "revoked")

    def _revocation(self, body: dict[str, Any]) -> Revocation:
        user_id, jti = body.get("user_id"), body.get("jti")
        if (user_id is None) == (jti is None):
            raise Refusal("bad_request", "the body names either user_id or jti")
        if user_id is not None and not is_user_id(user_id):
            raise Refusal("bad_request", f"user_id: {NO_USER}")
        if jti is not None and not is_jti(jti):
            raise Refusal("bad_request", f"jti: {NO_JTI}")
        not_before = body.get("not_before")
        if not_before is None:
            not_before = self._clock.wall_ms()
        if type(not_before) is not int or not 0 < not_before <= MAX_MS:
            raise Refusal("bad_request", "not_before must be a whole number of milliseconds since 1970")
        return Revocation(user_id or "", jti or "", not_before, self._authenticator.void_until(not_before))

    async def _append_until_newest(self, revocation: Revocation) -> None:
        """Appends until the newest record of the name has the latest times: the log keeps only that one for good.

        Another request may append a later one between the look at what is known and the append. It is told first then:
        this one is no news, and is known to count by the other alone. Raises Refusal.
        """
        for _ in range(TRIES):
            await self._append(revocation)
            await self._until_told(revocation)
            latest = self._authenticator.revoked.latest(revocation)
            if latest == revocation:
                return
            revocation = latest
        raise Refusal("outcome_unknown", "others revoke tokens of the same name all the time; repeat it")

    async def _append(self, revocation: Revocation) -> None:
        key, value = record_of(revocation)
        try:
            async with asyncio.timeout(APPEND_S):
                await self._log.append(LogName.REVOCATIONS, 0, key, value)
        except LogUnavailable as error:
            raise Refusal("log_unavailable", str(error)) from None
        except (AppendUnknown, TimeoutError):
            raise Refusal("outcome_unknown", "the log has not acknowledged the revocation; repeat it") from None

    async def _until_told(self, revocation: Revocation) -> None:
        try:
            async with asyncio.timeout(TOLD_S):
                while not self._authenticator.revoked.has(revocation):
                    await self._news.wait()
        except TimeoutError:
            detail = "the log has the revocation, but no dispatcher has told of it yet; repeat it"
            raise Refusal("outcome_unknown", detail) from None
