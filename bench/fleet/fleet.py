"""An installation: its nodes over one memory log, its readers and its publisher, and whether all is routed."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from bench.fleet.nodes import DispatcherProcess, GatewayProcess, IngestProcess, LinkedProcess, NodeLog
from bench.fleet.readers import Reader
from bench.fleet.wires import Traffic
from headgate.core.wire.control import LOGIC, Logic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_store import MemoryStore
from tests.contract.virtual import SeededRng, VirtualLoop

INGESTS: Final = 2
SEEDS: Final = 3  # dispatchers that the settings of the others name
POLL_S: Final = 0.05
PATIENCE_S: Final = 120.0
ASKED_USERS: Final = 100
LOG_BYTES: Final = 8 << 30
FAULTS: Final = 20  # kept; the first ones say it
SLOTS: Final = 50  # requests under way


class Size(NamedTuple):
    """How large the fleet is."""

    dispatchers: int
    gateways: int
    shards: int
    topics: int
    readers: int
    per_reader: int = 2  # topics of a reader


class Late(RuntimeError):
    """Something was not so within PATIENCE_S virtual seconds."""


class Fleet:
    """Everything of one run, by name. `faults` are what must not be; `events` counts what may."""

    def __init__(self, size: Size, loop: VirtualLoop, seed: int = 1) -> None:
        self.size = size
        self.loop = loop
        self.delivered = 0
        self.faults: list[str] = []
        self.events: Counter[str] = Counter()
        self._seed = seed
        self.store = MemoryStore(loop, self.rng("store"), size.shards, LOG_BYTES, coordinated=True)
        self.dispatchers: list[DispatcherProcess] = []
        self.gateways: list[GatewayProcess] = []
        self.ingests: list[IngestProcess] = []
        self.readers: list[Reader] = []
        self.topics = [f"topic-{n}" for n in range(size.topics)]
        self.published: Counter[str] = Counter()  # accepted messages of each topic
        self._by_address: dict[str, DispatcherProcess] = {}
        self._ever = 0  # dispatchers
        self._publishing: asyncio.Task[None] | None = None
        self._is_publishing = False

    # -- what its parts use

    def rng(self, name: str) -> SeededRng:
        """Returns the stream of randomness of one part."""
        return SeededRng(f"{self._seed}:{name}")

    def seeds(self) -> list[str]:
        """Returns the addresses that the settings name: of dispatchers that live."""
        return [node.address for node in self.dispatchers[:SEEDS]]

    def at(self, address: str) -> DispatcherProcess | None:
        """Returns the dispatcher that listens at an address."""
        node = self._by_address.get(address)
        return node if node is not None and node.service.ready.is_set() else None

    def fault(self, text: str) -> None:
        """Notes something that must not be."""
        self.events["faults"] += 1
        if len(self.faults) < FAULTS:
            self.faults.append(text)

    def count(self, what: str) -> None:
        """Counts something that may be."""
        self.events[what] += 1

    # -- its nodes

    async def write_logic(self) -> None:
        """Writes what `headgate init` writes behind the config record."""
        log = NodeLog(self.store)
        await log.open()
        value = encode_control(encode_body(Logic(LOGIC)), 0)
        await asyncio.gather(
            *(log.append(LogName.MESSAGES, shard, b"hg:logic", value) for shard in range(self.size.shards))
        )

    async def add_dispatchers(self, count: int) -> None:
        """Starts dispatchers."""
        for _ in range(count):
            node = DispatcherProcess(self, f"dispatcher-{self._ever}")
            self._ever += 1
            self.dispatchers.append(node)
            self._by_address[node.address] = node
            await node.start()

    async def kill_dispatchers(self, count: int) -> None:
        """Kills the newest ones."""
        killed, self.dispatchers = self.dispatchers[-count:], self.dispatchers[:-count]
        for node in killed:
            del self._by_address[node.address]
        await asyncio.gather(*(node.kill() for node in killed))

    async def add_ingests(self) -> None:
        """Starts the ingests."""
        for n in range(INGESTS):
            log = NodeLog(self.store)
            await log.open()
            self.ingests.append(IngestProcess(self, f"ingest-{n}", log))

    def add_gateways(self) -> None:
        """Starts all gateways."""
        self.gateways = [GatewayProcess(self, f"gateway-{n}") for n in range(self.size.gateways)]

    async def restart_gateways(self, count: int, at_once: int, spread_s: float) -> None:
        """Restarts the first ones, some at a time; the next ones once these are ready."""
        for begin in range(0, count, at_once):
            places = range(begin, min(begin + at_once, count))
            await asyncio.gather(*(self.gateways[place].stop(spread_s) for place in places))
            for place in places:
                self.gateways[place] = GatewayProcess(self, self.gateways[place].traffic.name)
            await self.until("restarted gateways are ready", partial(self._are_ready, places))

    def _are_ready(self, places: range) -> bool:
        return all(self.gateways[place].directory.missing() is None for place in places)

    # -- its users

    async def create_topics(self) -> None:
        """Creates the topics through the ingests."""
        slots = asyncio.Semaphore(SLOTS)

        async def create(topic_id: str) -> None:
            async with slots:
                body = {"topic_id": topic_id, "name": topic_id, "permissions": "PUBLIC"}
                while True:
                    status, answer = await self._ingest(topic_id).call("POST", "/api/v1/topics", "keeper", body)
                    if status in (201, 409):
                        return
                    self._check_status(status, answer)
                    await asyncio.sleep(0.2)

        await asyncio.gather(*map(create, self.topics))

    def add_readers(self) -> None:
        """Starts the readers; each topic has as many, but for the remainder."""
        per, topics = self.size.per_reader, self.topics
        for n in range(self.size.readers):
            mine = {topics[(n * per + k * (n // len(topics) + 1)) % len(topics)]: None for k in range(per)}
            self.readers.append(Reader(self, f"user-{n}", list(mine)))

    async def publish(self, topic_id: str) -> None:
        """Publishes one message, with the same id until it is accepted."""
        body = {"payload": self.published[topic_id], "client_msg_id": f"{topic_id}-{self.events['publishes']}"}
        self.count("publishes")
        while True:
            path = f"/api/v1/topics/{topic_id}/publish"
            status, answer = await self._ingest(topic_id).call("POST", path, "publisher", body)
            if status == 200:
                self.published[topic_id] += 1
                return
            self._check_status(status, answer)
            self.count("publishes tried again")
            await asyncio.sleep(0.2)

    async def publish_to_all(self) -> None:
        """Publishes one message to each topic."""
        slots = asyncio.Semaphore(SLOTS)

        async def one(topic_id: str) -> None:
            async with slots:
                await self.publish(topic_id)

        await asyncio.gather(*map(one, self.topics))

    def keep_publishing(self, rate: float) -> None:
        """Publishes to topics in turn, until `stop_publishing`."""
        self._is_publishing = True
        self._publishing = asyncio.create_task(self._publish(rate))

    async def stop_publishing(self) -> None:
        """Ends that, once what is under way has been accepted."""
        self._is_publishing = False
        if self._publishing is not None:
            await self._publishing

    async def _publish(self, rate: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            while self._is_publishing:
                topic_id = self.topics[self.events["publishes"] * 7919 % len(self.topics)]
                tasks.create_task(self.publish(topic_id))
                await asyncio.sleep(1 / rate)

    def _ingest(self, topic_id: str) -> IngestProcess:
        return self.ingests[len(topic_id) % len(self.ingests)]

    def _check_status(self, status: int, answer: object) -> None:
        if status not in (503, 504):
            self.fault(f"unexpected answer {status} {answer}")

    # -- whether all is well

    async def until(self, what: str, is_so: Callable[[], bool]) -> None:
        """Waits. Raises Late."""
        deadline = self.loop.now() + PATIENCE_S
        while not is_so():
            if self.loop.now() > deadline:
                raise Late(f"not so after {PATIENCE_S:g} virtual seconds: {what}. {self.state()}")
            await asyncio.sleep(POLL_S)

    def is_owned(self) -> bool:
        """Whether each shard has exactly one owner that is live."""
        owned = Counter(shard for node in self.dispatchers for shard in node.service.dispatcher.owners)
        return len(owned) == self.size.shards and max(owned.values()) == 1

    def is_linked(self) -> bool:
        """Whether every gateway and ingest is linked to every dispatcher and knows the owner of each shard."""
        ends = [*self.ingests, *self.gateways]
        names = {node.traffic.name for node in self.dispatchers}
        return all(end.directory.nodes.keys() == names and end.directory.missing() is None for end in ends)

    def is_announced(self) -> bool:
        """Whether every owner has heard from every gateway which topics and users it has."""
        for node in self.dispatchers:
            dispatcher = node.service.dispatcher
            for shard in dispatcher.owners:
                api = dispatcher.api(shard)
                if api is None or not (api.announcements.complete and api.presence.announcements.complete):
                    return False
                if not dispatcher._user_sides[shard].announcements.complete:
                    return False
        return True

    def is_routed(self) -> bool:
        """Whether all of that is so."""
        return self.is_owned() and self.is_linked() and self.is_announced()

    def is_subscribed(self) -> bool:
        """Whether every reader follows all its topics."""
        return all(topic.active for reader in self.readers for topic in reader.topics.values())

    def is_caught_up(self) -> bool:
        """Whether every reader has every message that was accepted; each checks itself that it has none twice."""
        return self.is_subscribed() and all(
            topic.expected == self.published[topic_id] + 1
            for reader in self.readers
            for topic_id, topic in reader.topics.items()
        )

    def copies_of_one_each(self) -> int:
        """Returns how many copies one message to each topic must make: one for each gateway that has a reader of it."""
        pairs = {
            (reader.socket.gateway.traffic.name, topic_id)
            for reader in self.readers
            if reader.socket is not None
            for topic_id in reader.topics
        }
        return len(pairs)

    async def wrong_users(self) -> int:
        """Asks for the connections of some users over the owners of their shards; returns how many are not right."""
        wrong = 0
        for reader in self.readers[:: max(1, len(self.readers) // ASKED_USERS)]:
            _, answer = await self.ingests[0].call("GET", "/api/v1/connections", reader.name)
            found = answer.get("connections") if isinstance(answer, dict) else None
            here = reader.socket.gateway.traffic.name if reader.socket is not None else ""
            if found is None or [one.get("gateway", one.get("node")) for one in found] != [here]:
                wrong += 1
                self.fault(f"{reader.name} is on {here}, its owner says {answer}")
        return wrong

    def is_spread(self) -> bool:
        """Whether each shard has one owner, and no dispatcher owns more than its share."""
        most = max(len(node.service.dispatcher.owners) for node in self.dispatchers)
        return self.is_owned() and most <= -(-self.size.shards // len(self.dispatchers))

    def traffic(self) -> list[Traffic]:
        """Returns the counts of all nodes that run."""
        linked: list[LinkedProcess] = [*self.ingests, *self.gateways]
        return [*(node.traffic for node in self.dispatchers), *(node.traffic for node in linked)]

    def state(self) -> str:
        """Returns one line for people."""
        return (
            f"owned {self.is_owned()}, linked {self.is_linked()}, announced {self.is_announced()}, "
            f"subscribed {self.is_subscribed()}, caught up {self.is_caught_up()}; {dict(self.events)}"
        )
