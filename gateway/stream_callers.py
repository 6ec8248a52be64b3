"""Who opens a stream: the first credential of its request decides (docs/protocol.md, section 1).

Most are known at once. A token whose key is being fetched, and a ticket that its user's owner has to use up, take a
moment longer.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.handshake import subprotocols
from gateway.head import Head
from headgate.core.fanout.deadlines import Deadlines
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Refused, Request
from headgate.core.wire.link_users import Redeem
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.rights import Identity
from headgate.runtime.http.callers import KEY_FETCHES
from headgate.runtime.http.credentials import USER_HEADER, of_stream, open_user
from headgate.runtime.http.request_text import decoded
from headgate.runtime.jwks import UnknownKey
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Clock
from headgate.runtime.tickets import Ticket
from headgate.runtime.tokens import Authenticator

REDEEM_S: Final = 5.0  # for the owner of a user's shard to use a ticket up

OnCaller = Callable[[Identity | Refusal | None], None]


class StreamCallers:
    """Identifies the callers of one gateway's streams."""

    def __init__(
        self,
        authenticator: Authenticator,
        directory: Directory,
        deadlines: Deadlines,
        clock: Clock,
        *,
        query_token: bool,
    ) -> None:
        """`query_token`: whether a token may come in the query string."""
        self._authenticator = authenticator
        self._directory = directory
        self._deadlines = deadlines
        self._clock = clock
        self._query_token = query_token

    def identify(self, head: Head, then: OnCaller) -> None:
        """Calls `then` once, now or within seconds, with who sent a stream's request, or why nobody did.

        None stands for a request without a credential. In open mode a bad user id is refused with `bad_request`.
        """
        query = dict(head.query)
        if self._authenticator.open:
            self._name(head, query, then)
            return
        try:
            credential = of_stream(
                head.headers.get("authorization"), subprotocols(head), query, query_token=self._query_token
            )
        except Refusal as refusal:
            then(refusal)
            return
        if credential is None:
            then(None)
        elif credential.kind == "ticket":
            self._take_ticket(credential.text, then)
        else:
            self._take_token(credential.text, then, KEY_FETCHES)

    def _name(self, head: Head, query: dict[str, str], then: OnCaller) -> None:
        user = head.headers.get(USER_HEADER)
        if user is not None:
            user = decoded(user.encode("latin-1"))
        try:
            identity = self._authenticator.anonymous_caller(open_user(query, user))
        except Refusal as refusal:
            then(refusal)
        else:
            then(identity)

    def _take_token(self, token: str, then: OnCaller, fetches: int) -> None:
        try:
            identity = self._authenticator.authenticate(token)
        except UnknownKey as refusal:
            if fetches:
                self._authenticator.when_keys_fetched(partial(self._take_token, token, then, fetches - 1))
            else:
                then(refusal)
        except Refusal as refusal:
            then(refusal)
        else:
            then(identity)

    def _take_ticket(self, text: str, then: OnCaller) -> None:
        try:
            ticket = self._authenticator.read_ticket(text)
            if ticket.id:
                shard = self._directory.shard_of(ticket.identity.caller.user_id)
        except Refusal as refusal:
            then(refusal)
            return
        if not ticket.id:
            then(ticket.identity)
            return
        redeeming = _Redeeming(self._authenticator, text, ticket, then)
        self._directory.request(shard, redeeming.request, redeeming.answered)
        if not redeeming.done:
            self._deadlines.plan(redeeming, self._clock.now() + REDEEM_S)


class _Redeeming:
    """A ticket that is being used up at the owner of its user's shard."""

    def __init__(self, authenticator: Authenticator, text: str, ticket: Ticket, then: OnCaller) -> None:
        self.done = False
        self._authenticator = authenticator
        self._text = text
        self._ticket = ticket
        self._then = then

    def request(self, req: int) -> Request:
        """Returns the question to the owner."""
        ticket = self._ticket
        return Redeem(req, ticket.identity.caller.user_id, ticket.id, ticket.made_ms, ticket.expires_ms)

    def answered(self, answer: Answer) -> None:
        """Takes the owner's answer. The ticket may have been revoked meanwhile."""
        if isinstance(answer, Refused):
            refusal = refusal_of(answer)
            known = refusal.retryable or refusal.code == "unauthenticated"
            self._end(refusal if known else _not_ready("the owner of the user's shard takes no tickets yet"))
            return
        try:
            self._authenticator.read_ticket(self._text)
        except Refusal as refusal:
            self._end(refusal)
        else:
            self._end(self._ticket.identity)

    def visit(self, now: float) -> None:
        """The owner does not answer: the client comes again. See `headgate.core.fanout.wheel.Visited`."""
        self._end(_not_ready("the owner of the user's shard does not answer"))

    def _end(self, outcome: Identity | Refusal) -> None:
        if not self.done:
            self.done = True
            self._then(outcome)


def _not_ready(why: str) -> Refusal:
    return Refusal("not_ready", why, retry_after_ms=1_000)
