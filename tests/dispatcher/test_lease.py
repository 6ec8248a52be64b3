"""A node that stood still asks who owns its shards before it pushes anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.lease import PAUSE_S, SETTLE_S, Lease
from dispatcher.service import DispatcherService
from headgate.core.sequencer.claims import Claim, encode_claim
from headgate.core.wire import link
from headgate.core.wire.control import CreateTopic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link
from headgate.runtime.testing.faulty_log import Reach
from tests.dispatcher.test_assignment import SlowClaims
from tests.dispatcher.test_links_and_requests import Pushes


class Jumping(SystemClock):
    """A clock that can jump ahead, as the loop's does for a process that was stopped."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


def test_a_pause_longer_than_the_session_loses_the_lease_whoever_looks_first() -> None:
    clock = Jumping()
    lease = Lease(clock)
    clock.ahead_s += 2 * PAUSE_S
    assert lease.held(), "nobody watches before the first beat"
    assert lease.beat()
    clock.ahead_s += PAUSE_S - 0.1
    assert lease.beat()
    assert lease.settled()
    clock.ahead_s += PAUSE_S + 0.1
    assert not lease.held()
    assert not lease.beat()
    lease.renew()
    assert lease.held()
    assert not lease.settled(), "the assignment may be of before the pause"
    clock.ahead_s += PAUSE_S - 0.1
    assert lease.beat()
    assert not lease.settled()
    clock.ahead_s += PAUSE_S - 0.1
    assert lease.beat()
    clock.ahead_s += SETTLE_S - 2 * PAUSE_S + 0.3
    assert lease.settled()


def test_after_a_pause_an_assignment_is_believed_as_soon_as_the_group_gives_one() -> None:
    lease = Lease(Jumping())
    lease.renew()
    assert not lease.settled()
    lease.confirm()
    assert lease.settled()


class Rig:
    """One node that serves a topic, and a gateway's link to it."""

    def __init__(
        self, service: DispatcherService, log: SlowClaims, clock: Jumping, epoch: int, directory: LinkDirectory
    ) -> None:
        self.directory = directory
        self.service = service
        self.log = log
        self.clock = clock
        self.epoch = epoch
        self.pushes = Pushes()

    def publish(self, name: str) -> None:
        item = Item(keyed_id(topic_key("t"), "p", name), 0, b'"message_id":"x","publisher_id":"p","payload":1}')
        self.log.append(LogName.MESSAGES, 0, topic_key("t"), encode_message(item, self.epoch))

    def claimed_elsewhere(self) -> None:
        self.log.append(LogName.OWNERSHIP, 0, b"0", encode_claim(Claim("other", "run", "other:1")))


@asynccontextmanager
async def serving() -> AsyncIterator[Rig]:
    clock, rng = Jumping(), SystemRng()
    log = SlowClaims(MemoryStore(clock, rng, 1))
    log.go.set()
    await log.open()
    key = topic_key("t")
    control = CreateTopic(topic_id="t", name="t", permissions="PUBLIC", owner_id="ann")
    at = await log.append(LogName.MESSAGES, 0, key, encode_control(encode_body(control), 0, keyed_id(key, "a", "1")))
    service = DispatcherService(DispatcherOptions("n", "n:1", None), log, Shell(clock, rng, Metrics({"dispatcher"})))
    task = asyncio.create_task(service.run())
    directory = LinkDirectory("gateway", "g")
    rig = Rig(service, log, clock, (1 << 44) | at.offset, directory)
    directory.deliver_to(rig.pushes)
    async with asyncio.timeout(10):
        await service.ready.wait()
        near, far = encoded_link()
        service.accept(far)
        directory.add(near)
        while directory.missing() is not None:
            await asyncio.sleep(0.01)
        await directory.ask(0, lambda req: link.AskSubscribe(req, "t", Caller("ann"), None))
    try:
        yield rig
    finally:
        task.cancel()
        await asyncio.wait({task})
        await log.close()


async def test_after_a_pause_an_owner_that_was_replaced_pushes_nothing() -> None:
    """Even where messages arrive sooner than the claims: it asks first."""
    async with serving() as rig:
        rig.publish("before")
        async with asyncio.timeout(5):
            while rig.pushes.seqs("t") != [1]:
                await asyncio.sleep(0.01)
        rig.log.go.clear()
        rig.clock.ahead_s += 20.0
        rig.claimed_elsewhere()
        rig.publish("meanwhile")
        asyncio.get_running_loop().call_later(1.0, rig.log.go.set)
        async with asyncio.timeout(5):
            while 0 in rig.service.dispatcher.owners:
                assert rig.pushes.seqs("t") == [1]
                await asyncio.sleep(0)
        assert rig.pushes.seqs("t") == [1], "a push of an owner that had been replaced"


async def test_after_a_pause_an_owner_that_still_is_one_goes_on() -> None:
    async with serving() as rig:
        rig.clock.ahead_s += 20.0
        rig.publish("a")
        async with asyncio.timeout(5):
            while rig.pushes.seqs("t") != [1]:
                await asyncio.sleep(0.01)
        claims = await rig.log.bounds(LogName.OWNERSHIP, 0)
        assert claims.end - claims.first == 1, "it did not claim again"


async def test_what_gateways_say_during_the_pause_is_heard_after_it_and_in_order() -> None:
    """A subscription that ends or begins meanwhile has no answer: lost, its route would be wrong for ever."""
    async with serving() as rig:
        rig.log.go.clear()
        rig.log.append(LogName.OWNERSHIP, 0, b"0", b"no claim, but it has to be read first")
        rig.clock.ahead_s += 20.0
        routes = rig.service.dispatcher.owners[0].routes
        rig.directory.send(0, link.Attach(0, True, True, [link.AttachTopic("t", rig.epoch, 0, 5)]))
        rig.directory.send(0, link.Leave("t", rig.epoch, 2))
        await asyncio.sleep(0.3)
        assert routes.count("t") == 1, "nothing is done before it knows what it owns"
        rig.log.go.set()
        async with asyncio.timeout(5):
            while routes.count("t") != 3:
                assert routes.count("t") in (0, 1, 5)
                await asyncio.sleep(0)
        rig.directory.send(0, link.Leave("t", rig.epoch, 1))
        async with asyncio.timeout(5):
            while routes.count("t") != 2:
                await asyncio.sleep(0.01)


async def test_what_comes_right_after_the_pause_does_not_overtake_what_came_in_it() -> None:
    async with serving() as rig:
        dispatcher = rig.service.dispatcher
        (peer,) = dispatcher.peers
        rig.clock.ahead_s += 20.0
        dispatcher.received(peer, [link.Attach(0, True, True, [link.AttachTopic("t", rig.epoch, 0, 5)])])
        dispatcher.lease.renew()
        dispatcher.received(peer, [link.Leave("t", rig.epoch, 2)])
        async with asyncio.timeout(5):
            while peer._waiting:
                await asyncio.sleep(0)
        assert dispatcher.owners[0].routes.count("t") == 3


async def test_a_log_that_does_not_answer_is_no_evidence() -> None:
    """Ephemeral topics flow while the log is away: the node asks, hears nothing, and serves on."""
    async with serving() as rig:
        rig.log.reach = Reach.SILENT
        rig.clock.ahead_s += 20.0
        lease = rig.service.dispatcher.lease
        assert not lease.held()
        async with asyncio.timeout(5):
            while not lease.held():
                await asyncio.sleep(0.01)
        assert rig.service.dispatcher.api(0) is not None


async def test_after_a_pause_nothing_is_claimed_on_an_old_assignment() -> None:
    async with serving() as rig:
        rig.clock.ahead_s += 20.0
        rig.claimed_elsewhere()
        await asyncio.sleep(1.0)
        end = (await rig.log.bounds(LogName.OWNERSHIP, 0)).end
        await asyncio.sleep(2.5)
        assert (await rig.log.bounds(LogName.OWNERSHIP, 0)).end == end
        assert rig.service.dispatcher.owners == {}
