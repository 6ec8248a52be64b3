"""Frames beside the messages (presence, typing) for very many subscriptions, some of them in each loop turn."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from headgate.core.client.framing import WEBSOCKET, ClientFrame
from headgate.core.fanout.session import Subscription

SLICE: Final = 500  # writes of one loop turn: about 4 ms
QUEUED: Final = 1_000  # frames that wait; above it, and the two bounds below, `add` refuses
WRITES: Final = 200_000  # that wait: about two seconds; what is told then is no longer so
BYTES: Final = 16 * 1024 * 1024  # of the frames that wait: a whole list of users has up to 1 MB


class _Job(NamedTuple):
    data: bytes
    subscriptions: Sequence[Subscription]
    missed: Callable[[Subscription], None]


class SideFrames:
    """Writes to WebSockets in the order of `add`. `schedule` asks the shell for a call of `write`.

    Nothing is written to a session whose socket is full or that is held at a fence: `missed` is called for it. Where
    nothing waits a frame is taken, however many it is for.
    """

    def __init__(self, schedule: Callable[[], None]) -> None:
        self._schedule = schedule
        self._jobs: deque[_Job] = deque()
        self._at = 0  # in the first job
        self._writes = 0  # of all jobs, those made of the first one included
        self._bytes = 0
        self.failures = 0

    def add(
        self, frame: ClientFrame, subscriptions: Sequence[Subscription], missed: Callable[[Subscription], None]
    ) -> bool:
        """Takes a frame for subscriptions; False, and not taken, when too much waits."""
        writes, size = self._writes + len(subscriptions), self._bytes + len(frame.data)
        if len(self._jobs) >= QUEUED or (self._jobs and (writes > WRITES or size > BYTES)):
            return False
        if subscriptions:
            self._jobs.append(_Job(WEBSOCKET.control(frame), subscriptions, missed))
            self._writes, self._bytes = writes, self._bytes + len(self._jobs[-1].data)
            if len(self._jobs) == 1:
                self._schedule()
        return True

    def write(self) -> None:
        """Writes one slice, and asks for the next."""
        left = SLICE
        while self._jobs and left:
            job = self._jobs[0]
            part = job.subscriptions[self._at : self._at + left]
            for subscription in part:
                self._write(job, subscription)
            left -= len(part)
            self._at += len(part)
            if self._at >= len(job.subscriptions):
                self._end_first()
        if self._jobs:
            self._schedule()

    def _end_first(self) -> None:
        job = self._jobs.popleft()
        self._at = 0
        self._writes -= len(job.subscriptions)
        self._bytes -= len(job.data)

    def _write(self, job: _Job, subscription: Subscription) -> None:
        session = subscription.session
        if subscription.is_over or session.closed:
            return
        if session.paused or subscription.is_fenced:
            job.missed(subscription)
            return
        try:
            session.put(job.data)
        except Exception:  # a transport that broke; its session ends by connection_lost
            self.failures += 1
