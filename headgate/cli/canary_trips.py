"""The round trips of a canary: publishes over HTTP, follows its topics over a WebSocket, and counts what comes back."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Any, Final

import structlog

from headgate.cli.canary_tally import CanaryTally
from headgate.runtime.canary_metrics import ACCEPTED, OTHER, UNREACHABLE, CanaryMetrics
from headgate.runtime.ports import Clock
from headgate.runtime.settings_model import CanarySettings
from headgate_client import Client, ClientError, Problem, Unreachable
from headgate_client.position import From

IN_FLIGHT: Final = 64  # publishes that wait for an answer; above, messages that are due are skipped
QUIET_S: Final = 30.0  # without an accepted publish, or an arrival, for so long the canary is not ready
LOOK_S: Final = 0.5
AGAIN_S: Final = 5.0  # between the end of a subscription and the next one
KEPT_MS: Final = 3_600_000  # its messages are of no use later
READ_S: Final = 10.0  # it owns its topics, so it is a member: what it does not read is an inbox backlog

OnFrame = Callable[[dict[str, Any], bytes], None]
Connect = Callable[[OnFrame], Client]

logger = structlog.get_logger("canary")


class RoundTrips:
    """The messages of one canary process. Those of other canaries on the same topics are not looked at."""

    def __init__(self, settings: CanarySettings, connect: Connect, metrics: CanaryMetrics, clock: Clock) -> None:
        """`connect` makes a client that calls a function for each frame, and publishes without repeating."""
        self._every_s = settings.every_s
        self._ended = False  # nothing more is published
        self._judged = asyncio.Event()  # and nothing is awaited any longer
        self._topics = [f"{settings.topic}-{number}" for number in range(settings.topics)]
        self._connect = connect
        self._metrics = metrics
        self._clock = clock
        self._tally = CanaryTally(settings.late_s, settings.lost_s)
        self._run_id = uuid.uuid4().hex
        self._number = 0
        self._epochs: dict[str, int] = {}
        self._newest: dict[str, int] = {}  # seq by topic, of those that are not marked as read
        self._accepted_at = self._came_at = float("-inf")
        self._why = "starting"

    async def run(self) -> None:
        """Publishes and follows until cancelled; begins again when a subscription ends."""
        while True:
            try:
                await self._follow()
            except* ClientError as group:
                self._why = "; ".join(str(error) for error in _leaves(group))
            self._metrics.restarted()
            logger.warning("the canary begins again", why=self._why)
            await asyncio.sleep(AGAIN_S)
            self._tally.begin_again()

    async def give_up(self) -> None:
        """Counts messages as lost, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._metrics.lost(self._tally.give_up(self._clock.now()))
            if self._ended and self._tally.oldest is None:
                self._judged.set()

    async def end_after(self, seconds: float) -> None:
        """Publishes for so many seconds, then returns once every message has come or is given up (`give_up` runs)."""
        await asyncio.sleep(seconds)
        self._ended = True
        await self._judged.wait()

    def not_publishing(self) -> str | None:
        """Returns why publishes are not accepted; None: the last one was, lately."""
        if self._clock.now() - self._accepted_at < QUIET_S:
            return None
        return f"no publish was accepted in the last {QUIET_S:.0f} s: {self._why}"

    def not_receiving(self) -> str | None:
        """Returns why nothing comes back; None: something has, lately."""
        return None if self._clock.now() - self._came_at < QUIET_S else f"nothing came in the last {QUIET_S:.0f} s"

    async def _follow(self) -> None:
        """Raises ClientErrors in a group."""
        async with self._connect(self._on_frame) as client, asyncio.TaskGroup() as tasks:
            await self._make_topics(client)
            messages = client.subscribe(*self._topics, from_=self._start())
            tasks.create_task(_read(messages.__aiter__().__anext__))
            await messages.ready()  # what is published before would not come
            tasks.create_task(self._publish(client, tasks))
            tasks.create_task(self._mark_read(client))

    def _start(self) -> From:
        """Returns where to follow from: before the oldest message that is awaited."""
        oldest = self._tally.oldest
        if oldest is None:
            return "live"
        return {"ts": self._clock.wall_ms() - int((self._clock.now() - oldest + 1.0) * 1_000)}

    async def _make_topics(self, client: Client) -> None:
        for topic_id in self._topics:
            settings = {"retention_ms": KEPT_MS, "presence": "none"}
            body = {"topic_id": topic_id, "name": topic_id, "permissions": "PRIVATE", "settings": settings}
            try:
                await client.request("POST", "/api/v1/topics", body=body)
            except Problem as problem:
                if problem.code != "topic_exists":
                    raise

    async def _publish(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        in_flight: set[asyncio.Task[None]] = set()
        due = self._clock.now()
        while not self._ended:
            if len(in_flight) < IN_FLIGHT:
                self._number += 1
                task = tasks.create_task(self._send(client, self._number))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            else:
                self._metrics.skipped()
            due = max(due + self._every_s, self._clock.now())
            await asyncio.sleep(due - self._clock.now())

    async def _send(self, client: Client, number: int) -> None:
        topic_id = self._topics[number % len(self._topics)]
        self._tally.sent(number, self._clock.now())
        try:
            await client.publish(topic_id, {"canary": self._run_id, "number": number})
        except Problem as problem:
            outcome, self._why = problem.code, str(problem)
        except Unreachable as error:
            outcome, self._why = UNREACHABLE, str(error)
        except ClientError as error:
            outcome, self._why = OTHER, str(error)
        else:
            outcome, self._accepted_at = ACCEPTED, self._clock.now()
            self._tally.accepted(number)
        self._metrics.published(outcome)

    async def _mark_read(self, client: Client) -> None:
        """Marks what came as read, until cancelled. A mark that fails is tried again with the next one."""
        while True:
            await asyncio.sleep(READ_S)
            for topic_id, seq in list(self._newest.items()):
                with contextlib.suppress(ClientError):
                    await client.mark_read(topic_id, seq)
                    if self._newest[topic_id] == seq:
                        del self._newest[topic_id]

    def _on_frame(self, frame: dict[str, Any], _: bytes) -> None:
        """Looks at every frame as it came: the client itself leaves out what comes again."""
        topic_id = frame.get("topic_id", "")
        if frame["type"] == "subscribed":
            self._epochs[topic_id] = frame.get("epoch", 0)
        if frame["type"] == "message":
            self._newest[topic_id] = frame["seq"]
        payload = frame.get("payload") if frame["type"] == "message" else None
        if not isinstance(payload, dict) or payload.get("canary") != self._run_id:
            return
        now = self._clock.now()
        found = self._tally.came(payload["number"], topic_id, self._epochs.get(topic_id, 0), frame["seq"], now)
        if found is None:
            return
        self._came_at = now
        if found.again:
            self._metrics.repeated()
        else:
            self._metrics.received(found.seconds, late=found.late, found=found.found, disordered=found.disordered)


async def _read(following: Callable[[], Any]) -> None:
    """Takes messages out of the client, until its subscription raises a ClientError."""
    while True:
        try:
            await following()
        except StopAsyncIteration:
            raise ClientError("the subscription ended") from None


def _leaves(group: BaseExceptionGroup[ClientError]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
