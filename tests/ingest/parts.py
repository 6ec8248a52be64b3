"""The parts of an ingest, each for itself, on an in-memory log and an honest owner, in virtual time."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from headgate.core.publish.body import PublishBody
from headgate.core.wire import rights
from headgate.core.wire.control import CreateTopic
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from headgate.runtime.appender import Appender
from headgate.runtime.http.call import Call, Reply
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import Shell
from headgate.runtime.testing.faulty_log import FaultyLog
from ingest.access import Access
from ingest.admission import Admission, Publish, Wait
from ingest.catalog import Catalog
from ingest.controls import Controls
from ingest.delivery_questions import DeliveryQuestions
from ingest.durable import DurablePublishes
from ingest.ephemeral import EphemeralPublishes
from ingest.message_queries import MessageQueries
from ingest.owners import OwnerQueries
from ingest.ports import IngestMetrics
from ingest.publishing import Publishing
from ingest.queues import Queues
from ingest.rates import RateLimits, Rates
from ingest.reply_parents import ReplyParents
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.integration.ingest_twin import CountedMetrics, Owner, TwinDirectory

ANA = Caller("ana")
SERVICE = Caller("service", publish=("*",), subscribe=("*",), admin=True, service=True)
ACCEPTED = Wait(False, 0.0)


class Parts:
    """Everything between the HTTP layer and the log."""

    def __init__(self, limits: RateLimits | None = None, *, auto_create: bool = True) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = loop
        self.metrics = CountedMetrics()
        self.shell: Shell[IngestMetrics] = Shell(loop, SeededRng(1), self.metrics)
        self.store = MemoryStore(loop, self.shell.rng)
        self.log = FaultyLog(self.store)
        self.owner = Owner(self.store)
        self.directory = TwinDirectory(self.owner)
        self.appender = Appender(self.log, loop)
        self.owners = OwnerQueries(self.directory, loop)
        self.catalog = Catalog(self.directory, loop)
        self.access = Access(self.catalog, auto_create=auto_create)
        self.rates = Rates(loop, self.shell.rng, limits or RateLimits())
        self.controls = Controls(self.appender, self.owners, self.shell)
        self.queues = Queues(self.directory)
        self.admission = Admission(loop, self.rates, self.queues)
        self.deliveries = DeliveryQuestions(self.owners)
        self.durable = DurablePublishes(
            self.appender, self.owners, self.catalog, self.admission, self.deliveries, self.shell
        )
        self.ephemeral = EphemeralPublishes(self.directory, self.catalog, self.admission, self.deliveries, loop)
        self.messages = MessageQueries(self.owners)
        self.parents = ReplyParents(self.messages, self.admission)
        self.publishing = Publishing(
            self.durable, self.ephemeral, self.parents, self.deliveries, self.metrics, self.queues
        )

    async def topic(self, topic_id: str, **settings: Any) -> TopicInfo:
        """Creates a public topic of ana's."""
        record_id = self.controls.id_of("create", topic_id, ANA, None)
        await self.controls.change(topic_id, CreateTopic(topic_id, topic_id, "PUBLIC", "ana", settings), 0, record_id)
        return (await self.catalog.fetch(topic_id)).info

    def peek(self, topic_id: str) -> TopicInfo | None:
        """What is remembered of a topic and may be used at once."""
        known = self.catalog.lookup(topic_id, SERVICE, rights.may_see)
        return None if known is None else known.info

    def sequenced(self) -> Wait:
        """A wait for the seq, for 7 seconds."""
        return Wait(True, self.clock.now() + 7)

    def asked(self, kind: type[Any]) -> list[Any]:
        """The questions of one kind that the owner got."""
        return [request for request in self.directory.asked if isinstance(request, kind)]


def call(
    body: object = None,
    key: str | None = None,
    caller: Caller = ANA,
    topic_id: str = "t",
    user_id: str = "",
    **query: str,
) -> Call:
    """A request; without a `body` it has none."""
    text = b"" if body is None else json.dumps(body).encode()
    parameters = {"topic_id": topic_id, "user_id": user_id}
    return Call(
        caller, parameters, query, b"", "application/json", key, text, MemoryBudget().share(), "192.0.2.7", b"r1"
    )


def read(answer: Reply) -> Any:
    """The JSON of an answer."""
    return json.loads(answer.body)


def publish(info: TopicInfo, text: bytes = b"1", msg_id: str | None = None, caller: Caller = SERVICE) -> Publish:
    """A checked publish; without `msg_id` its id is one that ingest made."""
    body = PublishBody(text, msg_id, False, b"")
    return Publish(info, caller, body, msg_id or f"made-{text.decode()}", is_given=msg_id is not None)


def play(scene: Callable[[Parts], Awaitable[None]], limits: RateLimits | None = None, **options: Any) -> None:
    """Runs a scene on virtual time."""

    async def main() -> None:
        parts = Parts(limits, **options)
        await parts.log.open()
        await scene(parts)

    run(VirtualLoop(), main())
