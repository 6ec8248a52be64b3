"""One run: builds the processes, lets publishers, clients and faults loose, heals, and looks at the result."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple
from unittest import mock

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import CONFIG_KEY, LOGIC, Config, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.appender import Appender
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import Clock, Log
from tests.sim import bounds, faults, inboxes, letters, presence
from tests.sim.ackers import Acker
from tests.sim.checker import Checker, ids_of
from tests.sim.clients import Client
from tests.sim.disk import disks
from tests.sim.editors import Editor
from tests.sim.follow import Follow
from tests.sim.foreign import Foreign
from tests.sim.histories import histories
from tests.sim.lines import Line
from tests.sim.loop import SimLoop, SimRng, run
from tests.sim.members import Doorkeeper
from tests.sim.nodes import DispatcherNode, GatewayNode, IngestNode
from tests.sim.plan import GATEWAYS, INGESTS, Fault, Plan, draw
from tests.sim.publishers import Keeper, Publisher
from tests.sim.surroundings import quiet_and_small
from tests.sim.truth import Truth

QUIET_S: Final = 45.0  # virtual: within it everything must have healed
STEP_S: Final = 0.5
SNAPSHOT_STEP_S: Final = 2.0
LAST_S: Final = 5.0
VIOLATIONS: Final = 200  # kept of one run: the first ones say it

Scene = Callable[[int, frozenset[int]], Plan]


class Violation(NamedTuple):
    """A broken invariant and its witness."""

    name: str
    text: str


class Bugs:
    """What a planted bug may replace."""

    def appender(self, log: Log, clock: Clock) -> Any:
        """Returns the appender of an ingest."""
        return Appender(log, clock)

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Plants the bug for the length of a run."""
        yield


class Result(NamedTuple):
    """How a run ended."""

    plan: Plan
    violations: list[Violation]
    turns: int
    seconds: float
    acked: int
    delivered: int
    digest: str
    ahead: int


class BrokerClock:
    """The clock of the log's brokers; it may be ahead of everybody else's."""

    def __init__(self, loop: SimLoop) -> None:
        self.ahead_ms = 0
        self._loop = loop

    def now(self) -> float:
        """Returns virtual seconds."""
        return self._loop.now()

    def wall_ms(self) -> int:
        """Returns Unix milliseconds as a broker sees them."""
        return self._loop.wall_ms() + self.ahead_ms


class World:
    """Everything of one run, by name. `folder` is the disk of nodes whose index files outlive them."""

    def __init__(
        self, plan: Plan, loop: SimLoop, bugs: Bugs, on_trace: Callable[[str], None] | None, folder: Path | None
    ) -> None:
        self.plan = plan
        self.folder = folder
        loop.wall_rate = plan.wall_rate
        self.broker_clock = BrokerClock(loop)
        self.loop = loop
        self.bugs = bugs
        self.violations: list[Violation] = []
        self.ahead: list[str] = []
        self.is_active = True
        self._on_trace = on_trace
        self._hash = blake2b(digest_size=8)
        self._gaps: list[tuple[str, int, int, int, str, int]] = []
        self.damaged: set[int] = set()  # shards with a chunk that was damaged: their owners cannot know
        self._reference: dict[int, tuple[Shard, dict[bytes, Row]]] = {}
        with mock.patch("headgate.runtime.logs.memory_store.config_record", self._config_record):
            self.store = MemoryStore(self.broker_clock, self.rng("store"), plan.shards, coordinated=True)
        self.written: dict[int, list[Record]] = {}
        for shard in range(plan.shards):
            self._record(shard)
        self.dispatchers = {name: DispatcherNode(self, name) for name in plan.dispatchers}
        self.gateways = [GatewayNode(self, name) for name in GATEWAYS]
        self.ingests = {name: IngestNode(self, name) for name in INGESTS}
        ends = [*self.gateways, *self.ingests.values()]
        self.lines = [Line(self, end, node) for end in ends for node in self.dispatchers.values()]
        self.keeper = Keeper(self)
        share = plan.publishes // 2
        self.publishers = [Publisher(self, name, share) for name in ("p1", "p2")]
        self.foreign = Foreign(self, plan.foreign)
        self.doorkeeper = Doorkeeper(self, plan.door_changes)
        self.editors = [Editor(self, name, plan.changes // 3) for name in ("p1", "p2", "e3") if plan.changes]
        self.event_acks: list[tuple[str, int, int, bytes]] = []  # topic, epoch, seq, id of answered changes
        self.told: dict[str, list[dict[str, Any]]] = {}  # histories at the end
        self.truth = Truth(self.written)
        self.clients: list[Client] = []
        self.ackers: list[Acker] = []
        self.begun = 0.0
        self._tasks: dict[asyncio.Task[None], None] = {}

    # What everybody uses

    def rng(self, name: str) -> SimRng:
        """Returns the stream of randomness of one part of the run."""
        return SimRng(f"{self.plan.seed}:{name}")

    def trace(self, kind: str, text: str) -> None:
        """Notes what happened; the notes' digest shows whether two runs were the same."""
        line = f"{self.loop.now() - 1000:9.4f} {kind:8} {text}"
        self._hash.update(line.encode())
        if self._on_trace is not None:
            self._on_trace(line)

    def violate(self, name: str, text: str) -> None:
        """Notes a broken invariant."""
        if len(self.violations) < VIOLATIONS:
            self.trace("VIOLATED", f"{name}: {text}")
            self.violations.append(Violation(name, text))

    def lines_of(self, name: str) -> list[Line]:
        """Returns the links of a node."""
        return [line for line in self.lines if name in (line.client.name, line.node.name)]

    def suspect_gap(self, topic_id: str, epoch: int, first: int, last: int, who: str) -> None:
        """A gap was told; whether the log had really forgotten these messages by now is checked at the end."""
        shard = shard_of(topic_key(topic_id), self.plan.shards)
        if shard not in self.damaged:
            self._gaps.append((topic_id, epoch, first, last, who, self.forgotten(shard)))

    def forgotten(self, shard: int) -> int:
        """Returns the oldest offset of a shard that the log still keeps."""
        return self.store.parts[LogName.MESSAGES, shard].first

    def uninterrupted(self, shard: int) -> tuple[Shard, dict[bytes, Row]]:
        """Returns what applying the whole log without a stop gives."""
        if shard not in self._reference:
            state, rows = Shard(), dict[bytes, Row]()
            for _ in apply_many(state, rows, self.written[shard]):
                pass
            self._reference[shard] = state, rows
        return self._reference[shard]

    def _config_record(self, cluster_id: str, shards: int, shard: int) -> tuple[bytes, bytes]:
        kept = self.plan.unkeyed_kept
        config = Config(
            cluster_id=cluster_id, generation=1, shards=shards, shard=shard, dedup_unkeyed_ids=kept, logic=LOGIC
        )
        return CONFIG_KEY, encode_control(encode_body(config), 0)

    def _record(self, shard: int) -> None:
        """Keeps a copy of everything that is ever written to a message log."""
        part = self.store.parts[LogName.MESSAGES, shard]
        kept = self.written[shard] = list(part.slice(part.first, 10).records)
        add = part.add

        def recording(ts: int, key: bytes | None, value: bytes | None) -> Appended:
            place = add(ts, key, value)
            kept.append(Record(place.offset, ts, key, value))
            self.trace("log", f"{shard}:{place.offset} {(key or b'').decode()}")
            return place

        part.add = recording  # type: ignore[method-assign]  # a recorder between the log and the store

    # The run

    async def run(self) -> Result:
        """Runs to the end and checks."""
        begun = self.begun = self.loop.now()
        for node in self.dispatchers.values():
            await node.start()
        for gateway in self.gateways:
            gateway.start()
        for ingest in self.ingests.values():
            await ingest.start()
        creating = asyncio.gather(*(self.keeper.create(t) for t in self.plan.topics))
        rng = self.rng("clients")
        for n in range(self.plan.clients):
            topics = rng.sample(self.plan.topics, rng.randint(1, len(self.plan.topics)))
            sse = rng.random() < 0.3
            self.clients.append(Client(self, f"c{n}", topics[:1] if sse else topics, sse=sse))
        for n in range(self.plan.ackers):
            self.ackers.append(Acker(self, f"w{n}", rng.choice(self.plan.topics)))
        senders: list[Publisher | Foreign | Doorkeeper | Editor] = [*self.publishers, self.foreign, *self.editors]
        senders += [self.doorkeeper] if self.plan.door_changes else []
        publishing = [asyncio.create_task(sender.run(), name=sender.name) for sender in senders]
        for at, fault in enumerate(self.plan.faults):
            if at not in self.plan.skip:
                self.loop.call_at(begun + fault.at, self._start, fault)
        await asyncio.sleep(self.plan.active_s)
        await self._settle([creating, *publishing])
        self.told = await histories(self)
        await self._last_records()
        await presence.check(self)
        await letters.check(self)
        await inboxes.check(self)
        Checker(self).check({topic_id: ids_of(frames) for topic_id, frames in self.told.items()})
        self._check_gaps()
        self.violations += [Violation("X1", text) for text in self.loop.complaints]
        await self._end()
        return self._result(begun)

    def _start(self, fault: Fault) -> None:
        self.trace("fault", str(fault))
        task = asyncio.create_task(faults.happen(self, fault), name=f"fault-{fault.kind}")
        self._tasks[task] = None

    # The end

    async def _settle(self, work: list[Any]) -> None:
        """Everything heals; then everybody must be served, and every client caught up."""
        deadline = self.loop.now() + QUIET_S
        self.trace("phase", "faults end")
        waiting: set[Any] = {*self._tasks, *work}
        while waiting and self.loop.now() < deadline:
            _, waiting = await asyncio.wait(waiting, timeout=deadline - self.loop.now())
        if waiting:
            names = sorted(getattr(task, "get_name", lambda: "keeper")() for task in waiting)
            self.violate("X2", f"without an outcome after {QUIET_S:g} s: {names}")
        self.is_active = False
        for task in [*self._tasks, *work]:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self.violate("X1", f"{task}: {task.exception()!r}")
        self.trace("phase", "work ends")
        quiet = 0
        deadline = self.loop.now() + QUIET_S
        while self.loop.now() < deadline and quiet < 3:
            await asyncio.sleep(STEP_S)
            quiet = quiet + 1 if self._is_caught_up() and letters.all_is_settled(self) else 0
        while self.plan.is_wide and self.loop.now() < deadline and not bounds.snapshots_are_fresh(self):
            await asyncio.sleep(SNAPSHOT_STEP_S)

    def _is_caught_up(self) -> bool:
        truth = self.truth
        truth.read_on()
        for client in self.clients:
            for follow in client.follows.values():
                epoch = truth.alive.get(follow.topic_id)
                if epoch is None:
                    continue
                head = truth.head(follow.topic_id)
                if self.is_out(client, follow):
                    if follow.active:
                        return False
                    continue
                if not follow.active or follow.position is None or follow.position[0] != epoch:
                    return False
                if follow.expected - 1 != head:
                    return False
        return all(end.directory.missing() is None for end in [*self.gateways, *self.ingests.values()])

    def is_out(self, client: Client, follow: Follow) -> bool:
        """Returns whether a client may not read a topic that exists."""
        epoch = self.truth.alive[follow.topic_id]
        return bool(self.plan.door_changes) and not self.truth.doors.may_read(follow.topic_id, epoch, client.name)

    def is_out_of(self, follow: Follow) -> bool:
        """Returns whether a client has not got all of a topic: it was told of a gap."""
        epoch = self.truth.alive[follow.topic_id]
        return any(gap.epoch == epoch for gap in follow.gaps)

    async def _last_records(self) -> None:
        """Gives owners the time to read what was written last: an ingest may write a probe at any moment."""
        deadline = self.loop.now() + LAST_S
        while self.loop.now() < deadline and not all(
            owner.shard.next_offset > self.written[number][-1].offset
            for node in self.dispatchers.values()
            if node.up
            for number, owner in node.service.dispatcher.owners.items()
        ):
            await asyncio.sleep(0.01)

    def _check_gaps(self) -> None:
        for topic_id, epoch, first, last, who, forgotten in self._gaps:
            for one in self.truth.messages.get((topic_id, epoch), [])[max(first, 1) - 1 : last]:
                if one.offset >= forgotten:
                    name = f"client {who}, topic {topic_id}"
                    self.violate("H1", f"{name}: told of a gap at {one.seq}, which the log kept")
                    break

    async def _end(self) -> None:
        for node in self.dispatchers.values():
            if node.up:
                await node.end()

    def _result(self, begun: float) -> Result:
        acked = sum(bool(sent.acks) for p in self.publishers for sent in p.sent)
        delivered = sum(len(f.seen) for c in self.clients for f in c.follows.values())
        seconds = self.loop.now() - begun
        digest = self._hash.hexdigest()
        found = sorted(set(self.violations), key=lambda v: (v.name, len(v.text)))
        return Result(self.plan, found, self.loop.turns, seconds, acked, delivered, digest, len(self.ahead))


def simulate(
    seed: int,
    *,
    bugs: Bugs | None = None,
    skip: frozenset[int] = frozenset(),
    on_trace: Callable[[str], None] | None = None,
    scene: Scene = draw,
) -> Result:
    """Runs one seed of a scene and returns what was found."""
    loop = SimLoop()
    plan = scene(seed, skip)
    bugs = bugs or Bugs()

    async def main() -> Result:
        with TemporaryDirectory(prefix="headgate-sim-") as folder:
            return await World(plan, loop, bugs, on_trace, Path(folder) if plan.warm else None).run()

    with quiet_and_small(plan), disks(), bugs.planted():
        return run(loop, main())
