"""Requests of clients for a `presence` frame: of a session one after the other, and only while its socket takes bytes.

An answer may be 200 KB. Of a session that does not read no further one is asked for, and none is kept.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import ClientFrame
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.session import Session, Subscription
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer

MAX_WAITING: Final = 256  # requests of a session

AskOwner = Callable[[Session, Subscription, Callable[[Answer], None]], None]
Build = Callable[[str, Answer, FrameId], ClientFrame | None]


class _SessionRequests:
    """The requests of one session. `is_asked`: an answer is awaited; `in_turn`: they are being asked just now."""

    __slots__ = ("in_turn", "is_asked", "requests")

    def __init__(self) -> None:
        self.requests: deque[tuple[str, FrameId]] = deque()
        self.is_asked = self.in_turn = False


class PresenceQuestions:
    """`ask` asks the owner of a subscription's topic; `build` makes a frame of the answer, None where it has none."""

    def __init__(self, ask: AskOwner, build: Build) -> None:
        self._ask = ask
        self._build = build
        self._waiting: dict[Session, _SessionRequests] = {}

    def add(self, session: Session, topic_id: str, frame_id: FrameId) -> None:
        """Takes a request. Raises Refusal `rate_limited` while too many wait."""
        waiting = self._waiting.setdefault(session, _SessionRequests())
        if len(waiting.requests) >= MAX_WAITING:
            raise Refusal("rate_limited", f"{MAX_WAITING} presence requests wait for an answer", retry_after_ms=1_000)
        waiting.requests.append((topic_id, frame_id))
        self.go_on(session)

    def go_on(self, session: Session) -> None:
        """Asks what waits, one after the other, as long as the socket takes the answers."""
        waiting = self._waiting.get(session)
        if waiting is None or waiting.in_turn:
            return  # an owner in this process answers within `_ask`: only the first loop runs
        waiting.in_turn = True
        try:
            while waiting.requests and not (waiting.is_asked or session.paused or session.closed):
                self._ask_next(session, waiting)
        finally:
            waiting.in_turn = False
        if not (waiting.requests or waiting.is_asked):
            self._waiting.pop(session, None)

    def drop(self, session: Session) -> None:
        """A session has ended."""
        self._waiting.pop(session, None)

    def _ask_next(self, session: Session, waiting: _SessionRequests) -> None:
        topic_id, frame_id = waiting.requests.popleft()
        subscription = session.subscriptions.get(topic_id)
        if subscription is None:
            refusal = Refusal("not_found", f"this connection no longer follows {topic_id}")
            session.emit(outbound.error(refusal, frame_id, topic_id))
            return

        def answered(answer: Answer) -> None:
            waiting.is_asked = False
            frame = self._build(topic_id, answer, frame_id)
            if frame is not None:
                session.emit(frame)
            self.go_on(session)

        waiting.is_asked = True
        self._ask(session, subscription, answered)
