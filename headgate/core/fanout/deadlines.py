"""What time does to a session: heartbeats, deadlines, expiry, sockets that take nothing; reads no clock."""

from typing import Final, Protocol

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.ports import GatewayMetrics
from headgate.core.fanout.session import Session
from headgate.core.fanout.wheel import TICK_S, Visited, Wheel

_VISIT_S: Final = 5.0  # at the latest; a visit without work costs about a microsecond


class Watched(Protocol):
    """What watching asks of the hub."""

    limits: Limits
    metrics: GatewayMetrics
    catchup: CatchUp

    def disconnect(self, session: Session, code: int) -> None:
        """Ends a session with a close code."""


class Deadlines:
    """Visits every session now and then. Each stands in the wheel once, from its opening to its end."""

    def __init__(self, hub: Watched, now: float) -> None:
        self._hub = hub
        self._wheel = Wheel(now)

    def watch(self, session: Session) -> None:
        """Begins to visit a session; the first visit comes at once, when its deadlines are known."""
        session.vigil = self
        self._wheel.add(session, session.heard_at + TICK_S)

    def plan(self, item: Visited, due: float) -> None:
        """Plans a visit of something that is no session (a request head, a socket that should close)."""
        self._wheel.add(item, due)

    def tick(self, now: float) -> None:
        """Makes the visits that are due."""
        for item in self._wheel.advance(now):
            due = item.visit(now)
            if due is not None:
                self._wheel.add(item, due)

    def visit(self, session: Session, now: float) -> float | None:
        """Does what is due for one session and returns when to come again."""
        if session.closed:
            return None
        code = self._verdict(session, now)
        if code:
            if session.caller is None:
                self._hub.metrics.refused("unauthenticated", "no auth frame in time")
            self._hub.disconnect(session, code)
            return None
        if session.caller is None:
            return session.deadline
        self._warn(session, now)
        self._suspect(session, now)
        return self._beat(session, now)

    def look_at_parked(self, now: float) -> None:
        """Closes what takes no byte or is too far behind; goes on where a page did not come."""
        catchup = self._hub.catchup
        for session in list(catchup.parked):
            if not session.paused:
                catchup.pump(session)
                continue
            took = session.took(now)
            stalled = not took and now - session.stalled_at >= self._hub.limits.stalled_s
            if stalled or catchup.overdue(session):
                self._hub.disconnect(session, 4508)
            elif took and session.queued <= self._hub.limits.low_water:
                catchup.resume(session)

    def _verdict(self, session: Session, now: float) -> int:
        """Returns the close code of a session whose time is over, 0 for any other."""
        if session.deadline is not None and now >= session.deadline:
            return 4408
        if session.expires is not None and now >= session.expires:
            return 4610
        if session.framing is WEBSOCKET and now - session.heard_at >= self._hub.limits.dead_s:
            return 4602
        return 0

    def _warn(self, session: Session, now: float) -> None:
        if session.expires is None or session.warned or session.framing is not WEBSOCKET:
            return  # an SSE client cannot refresh
        left = session.expires - now
        if left <= self._hub.limits.expiry_warning_s:
            session.warned = True
            session.emit(outbound.token_expiring(round(left * 1000)))

    def _suspect(self, session: Session, now: float) -> None:
        """Parks a session whose socket may have stopped: parked, nothing is written to it, and one can tell."""
        if not session.paused and not session.took(now):
            self._hub.catchup.park(session, now)

    def _beat(self, session: Session, now: float) -> float:
        limits = self._hub.limits
        every = limits.heartbeat_s if session.framing is WEBSOCKET else limits.comment_s
        if now - session.beat_at >= every and not session.preface:  # a preface waits for the owner's answer
            session.beat_at = now
            session.put(session.framing.heartbeat)
        due = min(now + _VISIT_S, max(session.beat_at + every, now + TICK_S))
        return due if session.expires is None else min(due, session.expires)
