"""Writes to sessions out of step as much as their sockets take, and asks the owners for the pages they need."""

from collections.abc import Callable, Iterable
from functools import partial

from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import CatchUp, Due
from headgate.core.fanout.feed import page_request
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import Session, Subscription
from headgate.core.wire.link import Answer


class Pumping:
    """One for a gateway.

    `end` ends a session with a close code, `go_on` does what else waited for a socket, `wall_ms` is the time in Unix
    milliseconds.
    """

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        catchup: CatchUp,
        end: Callable[[Session, int], None],
        go_on: Callable[[Session], None],
        wall_ms: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._upstream = upstream
        self._catchup = catchup
        self._end = end
        self._go_on = go_on
        self._wall_ms = wall_ms

    def pump_all(self, rounds: Iterable[list[Session]]) -> None:
        """Pumps the sessions of each round before the next round is made."""
        for sessions in rounds:
            for session in sessions:
                self.pump(session)

    def pump(self, session: Session) -> None:
        """Writes what a session has missed."""
        pumped = self._catchup.pump(session, self._wall_ms())
        for subscription in pumped.fetches:
            feed = subscription.feed
            build = partial(page_request, feed, subscription.cursor, self._limits)
            self._upstream.request(feed.shard, build, partial(self._page, subscription))
        if pumped.too_slow:
            self._end(session, 4508)

    def resume(self, session: Session) -> None:
        """The socket takes bytes again: writes what was missed, then what waited."""
        self.pump(session)
        if not session.paused:
            self._go_on(session)

    def look(self, session: Session, now: float) -> None:
        """Does what is due for a session out of step; called about once a second."""
        due = self._catchup.due(session, now)
        if due is Due.PUMP:
            self.resume(session)
        elif due is not Due.NOTHING:  # a stream has no other sign of life than what its socket takes
            is_dead = due is Due.END_DEAD and session.framing is not WEBSOCKET
            self._end(session, 4602 if is_dead else 4508)

    def bring_up(self, subscription: Subscription) -> None:
        """Writes to a subscription in step all that its feed has, before the turn of its block."""
        feed, session = subscription.feed, subscription.session
        if subscription.in_step and feed.cursor_of(subscription) < feed.sent:
            subscription.step_out()
            self._catchup.admit(subscription)
            self.pump(session)
        if subscription.in_step and feed.pending and subscription.acks is None and not session.paused:
            self._catchup.run_ahead(subscription, self._wall_ms())

    def _page(self, subscription: Subscription, answer: Answer) -> None:
        if self._catchup.page(subscription, answer, self._wall_ms()):
            self.pump(subscription.session)
