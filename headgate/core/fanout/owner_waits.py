"""What waits for the owner of a shard: asked again when the owner is back, refused when that takes too long."""

from collections.abc import Callable
from typing import NamedTuple

from headgate.core.fanout.pending import PendingSubscribes
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.renewals import Renewals
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal


class WaitActions(NamedTuple):
    """What the hub does: asks the owner for a subscribe, tells the client that it is refused, goes on with a query."""

    ask: Callable[[PendingSubscribe], None]
    deny: Callable[[PendingSubscribe, Refusal], None]
    proceed: Callable[[Session], None]


class OwnerWaits:
    """The subscribes and renewals of one gateway that no owner has answered."""

    def __init__(self, upstream: Upstream, pending: PendingSubscribes, renewals: Renewals, do: WaitActions) -> None:
        self._upstream = upstream
        self._pending = pending
        self._renewals = renewals
        self._do = do

    def resend(self, shard: int | None) -> None:
        """Asks again what waits for an owner of the shard."""
        for pending in self._pending.resend(shard):
            if pending.asked:  # else it ended while others were asked for
                self._do.ask(pending)
        if shard is not None:
            self._renewals.resend(shard)

    def look(self, now: float) -> None:
        """Does what is due about once a second.

        A linked owner that does not answer (it rebuilds) holds up no other topic of a query.
        """
        for session in dict.fromkeys([*self._pending.turns.late(now), *self._pending.stalled()]):
            self._do.proceed(session)
        for pending in self._pending.expired(now):
            late = Refusal("not_ready", "the topic's owner is away; try again", retry_after_ms=1_000)
            self._do.deny(pending, late)
            self._do.proceed(pending.session)
        for shard in {*self._pending.waiting(), *self._renewals.waiting()}:
            if shard is None or self._upstream.linked(shard):
                self.resend(shard)
