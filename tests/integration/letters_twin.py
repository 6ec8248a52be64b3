"""A dispatcher and an ingest over a given log, and a gateway's link on which a test gives deliveries up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions, SnapshotOptions
from dispatcher.service import DispatcherService
from headgate.core.wire import link, link_hello
from headgate.core.wire.link_dead_letters import GivenUp, GiveUp, LetterDone, Receiver, Redeliver, WantReplays
from headgate.core.wire.rights import Caller
from headgate.runtime.appender import Appender
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Log, Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import EncodedLink, encoded_link
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from ingest.ports import NoMetrics
from ingest.service import IngestOptions, IngestService

KEY = TokenKey("a-secret-of-at-least-32-bytes-for-tests")
CLOCK, RNG = SystemClock(), SystemRng()
OFTEN = SnapshotOptions(check_s=0.05, least_s=0.1, interval_s=0.2)
LETTERS = "/api/v1/dead-letters"
PHONE = Receiver("bob", "phone")


class Gateway:
    """The near end of a gateway's link; it keeps what is delivered again."""

    def __init__(self) -> None:
        self.redelivered: list[Redeliver] = []
        self._link: EncodedLink | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._req = 0

    def join(self, service: DispatcherService) -> None:
        near, far = encoded_link("gateway", "dispatcher")
        near.deliver_to(self._take, lambda reason: None)
        service.accept(far)
        self._link = near
        near.send(link_hello.Hello(link.VERSION_LOW, link.VERSION_HIGH, "gateway", "g", "", 0))

    def send(self, message: link.Message) -> None:
        assert self._link is not None
        self._link.send(message)

    async def ask(self, build: Any) -> Any:
        self._req += 1
        future = self._answers[self._req] = asyncio.get_running_loop().create_future()
        self.send(build(self._req))
        return await asyncio.wait_for(future, 20)

    def _take(self, messages: list[link.Message]) -> None:
        for message in messages:
            if isinstance(message, Redeliver):
                self.redelivered.append(message)
            elif getattr(message, "req", None) in self._answers:
                self._answers.pop(message.req).set_result(message)  # type: ignore[union-attr]


class Site:
    """What serves now; `epochs` are those of the topics that were created."""

    def __init__(self, service: DispatcherService, client: httpx.AsyncClient, metrics: Metrics) -> None:
        self.service = service
        self.client = client
        self.metrics = metrics
        self.gateway = Gateway()
        self.epochs: dict[str, int] = {}

    async def call(self, method: str, path: str, user: str = "ann", **request: Any) -> httpx.Response:
        token = mint(KEY, Caller(user), now_s=CLOCK.wall_ms() / 1_000, ttl_s=3_600)
        return await self.client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **request)

    async def create(self, topic_id: str, messages: int, permissions: str = "PUBLIC") -> None:
        """Creates a topic of ann's with numbered messages."""
        body = {"topic_id": topic_id, "name": topic_id, "permissions": permissions}
        self.epochs[topic_id] = (await self.done("POST", "/api/v1/topics", json=body))["epoch"]
        for n in range(1, messages + 1):
            await self.done("POST", f"/api/v1/topics/{topic_id}/publish?wait=sequenced", json={"payload": {"n": n}})

    async def done(self, method: str, path: str, user: str = "ann", **request: Any) -> Any:
        answer = await self.call(method, path, user, **request)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def host(self, topic_id: str) -> None:
        """The gateway hosts the topic from now on, and has bob's subscription."""
        subscribed = await self.gateway.ask(lambda req: link.AskSubscribe(req, topic_id, Caller("ann")))
        assert isinstance(subscribed, link.Subscribed), subscribed
        self.epochs[topic_id] = subscribed.epoch
        self.gateway.send(WantReplays(topic_id, subscribed.epoch, PHONE))

    async def give_up(self, topic_id: str, seq: int, receiver: Receiver = PHONE, error: str = "down") -> None:
        epoch = self.epochs[topic_id]
        answer = await self.gateway.ask(
            lambda req: GiveUp(req, topic_id, epoch, seq, receiver, 3, "max_attempts", error)
        )
        assert isinstance(answer, GivenUp), answer

    def acknowledge(self, again: Redeliver) -> None:
        self.gateway.send(LetterDone(again.topic_id, again.epoch, again.id))

    async def listed(self, user: str = "ann", **query: Any) -> list[dict[str, Any]]:
        letters: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self.done("GET", LETTERS, user, params={**query, **page})
            letters += answer["dead_letters"]
            if answer["next_page"] is None:
                return letters
            page = {"page": answer["next_page"]}


@asynccontextmanager
async def site(log: Log, *, drain: bool = False) -> AsyncIterator[Site]:
    """Serves a log of any number of shards; without `drain` the dispatcher ends as if it was killed."""
    metrics = Metrics({"dispatcher"})
    options = DispatcherOptions("n", "n:1", None, snapshots=OFTEN, assignment=AssignmentOptions(final_s=5.0))
    service = DispatcherService(options, log, Shell(CLOCK, RNG, metrics))
    metrics.watch("dead_letters_open", service.open_letters)
    directory = LinkDirectory("ingest", "i")
    appender = Appender(log, CLOCK)
    ingest = IngestService(
        options=IngestOptions(),
        log=log,
        appender=appender,
        directory=directory,
        authenticator=Authenticator("jwt", KEY, CLOCK),
        shell=Shell(CLOCK, RNG, NoMetrics()),
    )
    directory.deliver_to(ingest)
    task = asyncio.create_task(service.run())
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(ingest.app), base_url="http://ingest.test")
        )
        async with asyncio.timeout(60):
            await service.ready.wait()
            near, far = encoded_link("i", "d")
            service.accept(far)
            directory.add(near)
            while directory.missing() or len(service.dispatcher.owners) < log.shards:
                await asyncio.sleep(0.02)
        found = Site(service, client, metrics)
        found.gateway.join(service)
        yield found
        if drain:
            await service.drain()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
