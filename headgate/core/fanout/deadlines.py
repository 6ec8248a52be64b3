"""What time does to a session: heartbeats, deadlines, expiry, sockets that take nothing."""

from typing import Final, NamedTuple

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.faults import Faults
from headgate.core.fanout.session import Session
from headgate.core.fanout.wheel import TICK_S, Visited, Wheel

_VISIT_S: Final = 5.0  # at the latest; a visit without work costs about a microsecond


class Ending(NamedTuple):
    """A session whose time is over, and the close code to end it with."""

    session: Session
    code: int


class Deadlines:
    """Visits every session now and then. Each is in the wheel once, from its opening to its end."""

    def __init__(self, limits: Limits, catchup: CatchUp, now: float, faults: Faults) -> None:
        """`faults` takes what went wrong with one visit; the others are made."""
        self._limits = limits
        self._faults = faults
        self._catchup = catchup
        self._sessions: Wheel[Session] = Wheel(now)
        self._items: Wheel[Visited] = Wheel(now)

    def watch(self, session: Session) -> None:
        """Begins to visit a session; the first visit comes at the next tick, when its deadlines are known."""
        self._sessions.add(session, session.heard_at + TICK_S)

    def plan(self, item: Visited, due: float) -> None:
        """Plans a visit of something that is no session (a request head, a socket that should close)."""
        self._items.add(item, due)

    def tick(self, now: float) -> list[Ending]:
        """Makes the visits that are due; returns the sessions to end."""
        for item in self._items.advance(now):
            try:
                due = item.visit(now)
            except Exception as error:
                self._faults.note(error)
                continue
            if due is not None:
                self._items.add(item, due)
        endings = []
        for session in self._sessions.advance(now):
            if session.closed:
                continue
            code = self._close_code(session, now)
            if code:
                endings.append(Ending(session, code))
                continue
            try:
                due = self._visit(session, now)
            except Exception as error:  # its deadlines are looked at again
                self._faults.note(error)
                due = now + _VISIT_S
            self._sessions.add(session, due)
        return endings

    def _visit(self, session: Session, now: float) -> float:
        """Does what is due for one session and returns when to come again."""
        if session.caller is None:
            return now + _VISIT_S if session.deadline is None else session.deadline
        if session.preface and session.framing is WEBSOCKET:
            session.release()  # the first topic's owner takes its time: the client hears `welcome` before
        self._warn(session, now)
        if not session.paused and not session.took(now):
            # Nothing is written to a parked session, so a stalled socket can be told from an idle one.
            self._catchup.park(session, now)
        return self._beat(session, now)

    def _close_code(self, session: Session, now: float) -> int:
        """Returns the close code of a session whose time is over, 0 for any other."""
        if session.deadline is not None and now >= session.deadline:
            return 4408
        if session.expires is not None and now >= session.expires:
            return 4610
        if session.framing is WEBSOCKET and now - session.heard_at >= self._limits.dead_s:
            return 4602
        return 0

    def _warn(self, session: Session, now: float) -> None:
        if session.expires is None or session.warned or session.framing is not WEBSOCKET:
            return  # an SSE client cannot refresh
        left = session.expires - now
        if left <= self._limits.expiry_warning_s:
            session.warn(outbound.token_expiring(round(left * 1000)))

    def _beat(self, session: Session, now: float) -> float:
        every = outbound.beats_every(session.framing, self._limits)
        if now - session.beat_at >= every and not session.preface:  # an event stream's waits for the owner's answer
            session.beat(now)
        due = min(now + _VISIT_S, max(session.beat_at + every, now + TICK_S))
        return due if session.expires is None else min(due, session.expires)
