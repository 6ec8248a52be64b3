"""The single-use tickets that were used up at the owner of their users' shard."""

from collections import deque
from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_users import Redeem

MAX_REDEEMED: Final = 20_000  # about 6 MB, and 200 tickets a second for each shard
KEPT_MS: Final = 60_000  # beyond a ticket's end: this node's clock may be set back


class RedeemedTickets:
    """Remembers tickets for as long as they could be used again; times are Unix milliseconds.

    It begins empty. So a ticket from before `live_ms`, when this node became the owner, is refused: the owner before
    may have seen it.
    """

    def __init__(self, live_ms: int) -> None:
        self._live_ms = live_ms
        self._known: set[str] = set()
        self._ends: deque[tuple[int, str]] = deque()  # in the order they came

    def __len__(self) -> int:
        return len(self._known)

    def redeem(self, ask: Redeem, now_ms: int) -> None:
        """Uses a ticket up. Raises Refusal `unauthenticated`, and `not_ready` where too many are remembered."""
        while self._ends and self._ends[0][0] + KEPT_MS < now_ms:
            self._known.discard(self._ends.popleft()[1])
        if ask.ticket_id in self._known:
            raise Refusal("unauthenticated", "the ticket has been used; get another")
        if ask.issued_ms < self._live_ms:
            raise Refusal("unauthenticated", "the ticket is older than its present owner; get another")
        if now_ms > ask.expires_ms:
            raise Refusal("unauthenticated", "the ticket has expired; get another")
        if len(self._known) >= MAX_REDEEMED:
            raise Refusal("not_ready", "too many tickets are being used", retry_after_ms=1_000)
        self._known.add(ask.ticket_id)
        self._ends.append((ask.expires_ms, ask.ticket_id))
