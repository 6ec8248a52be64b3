"""A dispatcher over a memory log, asked over a link through the wire format."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.service import DispatcherService
from headgate.core.wire import link
from headgate.core.wire.control import CreateTopic, DeleteTopic, encode_body
from headgate.core.wire.envelope import Item, encode_bundle, encode_control, encode_message
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.position import Position
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.logs.memory_log import MemoryLog
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link

ANN = Caller("ann")


class Pushes:
    """Collects what owners push."""

    def __init__(self) -> None:
        self.messages: list[link.Message] = []
        self.up: set[int] = set()

    def on_push(self, shard_epoch: int, message: link.Message) -> None:
        self.messages.append(message)

    def on_owner(self, shard: int, up: bool) -> None:
        (self.up.add if up else self.up.discard)(shard)

    def seqs(self, topic_id: str) -> list[int]:
        groups = [m for m in self.messages if isinstance(m, link.Messages) and m.topic_id == topic_id]
        return [m.seq + i for m in groups for i in range(len(m.frames))]


class Bed:
    """One dispatcher, one directory, one log."""

    def __init__(self, service: DispatcherService, log: MemoryLog, directory: LinkDirectory, pushes: Pushes) -> None:
        self.service = service
        self.log = log
        self.directory = directory
        self.pushes = pushes

    async def control(self, topic_id: str, body: bytes, epoch: int = 0, name: str = "1") -> Verdict:
        key = topic_key(topic_id)
        shard = self.directory.shard_of(topic_id)
        value = encode_control(body, epoch, keyed_id(key, "ann", name))
        at = await self.log.append(LogName.MESSAGES, shard, key, value)
        answer = await self.directory.ask(shard, lambda req: link.AskVerdict(req, shard, at.offset))
        assert isinstance(answer, link.Verdicts)
        return answer.verdicts[0]

    async def create(self, topic_id: str, name: str = "1") -> Verdict:
        control = CreateTopic(topic_id=topic_id, name=topic_id, permissions="PUBLIC", owner_id="ann")
        return await self.control(topic_id, encode_body(control), 0, name)

    async def publish(self, topic_id: str, epoch: int, name: str) -> Verdict:
        key = topic_key(topic_id)
        shard = self.directory.shard_of(topic_id)
        item = Item(keyed_id(key, "ann", name), 1, b'"message_id":"x","publisher_id":"ann","payload":1}')
        at = await self.log.append(LogName.MESSAGES, shard, key, encode_message(item, epoch))
        answer = await self.directory.ask(shard, lambda req: link.AskVerdict(req, shard, at.offset))
        assert isinstance(answer, link.Verdicts)
        return answer.verdicts[0]

    async def subscribe(self, topic_id: str, position: Position | None = None) -> link.Subscribed:
        shard = self.directory.shard_of(topic_id)
        answer = await self.directory.ask(shard, lambda req: link.AskSubscribe(req, topic_id, ANN, position))
        assert isinstance(answer, link.Subscribed)
        return answer


@asynccontextmanager
async def running() -> AsyncIterator[Bed]:
    clock, rng = SystemClock(), SystemRng()
    log = MemoryLog(MemoryStore(clock, rng, 4, 1 << 28))
    await log.open()
    options = DispatcherOptions("node-1", "127.0.0.1:1", None)
    service = DispatcherService(options, log, Shell(clock, rng, Metrics({"dispatcher"})))
    task = asyncio.create_task(service.run())
    await service.ready.wait()
    near, far = encoded_link()
    service.accept(far)
    directory, pushes = LinkDirectory("dev", "client-1"), Pushes()
    directory.deliver_to(pushes)
    directory.add(near)
    async with asyncio.timeout(5):
        while directory.missing() is not None:
            await asyncio.sleep(0.01)
    try:
        yield Bed(service, log, directory, pushes)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await log.close()


async def test_create_subscribe_publish_history() -> None:
    async with running() as bed:
        made = await bed.create("prices")
        assert made.code == Code.CREATED
        assert (await bed.create("prices")).epoch == made.epoch
        assert (await bed.create("prices", "2")).code == Code.EXISTS
        granted = await bed.subscribe("prices")
        assert (granted.seq, granted.first_seq, granted.count, granted.cursor) == (0, 1, 1, 0)
        first = await bed.publish("prices", made.epoch, "a")
        again = await bed.publish("prices", made.epoch, "a")
        assert (first.code, first.seq) == (Code.ACCEPTED, 1)
        assert (again.code, again.seq) == (Code.DUPLICATE, 1)
        await bed.publish("prices", made.epoch, "b")
        assert bed.pushes.seqs("prices") == [1, 2]
        shard = bed.directory.shard_of("prices")
        page = await bed.directory.ask(shard, lambda r: link.AskHistory(r, "prices", ANN, 0, -1, -1, 10))
        assert isinstance(page, link.HistoryPage)
        assert (page.first_seq, page.last_seq, len(page.frames), page.complete) == (1, 2, 2, True)
        assert page.frames[0].startswith(b'{"type":"message","topic_id":"prices","seq":1,"ts":')


async def test_delete_ends_the_route_and_a_new_topic_begins_at_one() -> None:
    async with running() as bed:
        made = await bed.create("t")
        await bed.subscribe("t")
        await bed.publish("t", made.epoch, "a")
        gone = await bed.control("t", encode_body(DeleteTopic("t")), made.epoch, "del")
        assert gone.code == Code.DELETED
        assert any(isinstance(m, link.Ended) and m.reason == "deleted" for m in bed.pushes.messages)
        assert (await bed.publish("t", made.epoch, "late")).code == Code.NO_TOPIC
        anew = await bed.create("t", "2")
        assert anew.epoch > made.epoch
        assert (await bed.publish("t", made.epoch, "later")).code == Code.STALE_EPOCH
        assert (await bed.publish("t", anew.epoch, "a")).seq == 1


async def test_a_gateway_that_comes_back_gets_what_it_missed_then_live() -> None:
    async with running() as bed:
        made = await bed.create("t")
        for n in range(5):
            await bed.publish("t", made.epoch, str(n))
        shard = bed.directory.shard_of("t")
        bed.directory.send(
            shard,
            link.Attach(shard, True, True, [link.AttachTopic("t", made.epoch, 2, 1), link.AttachTopic("x", 1, 0, 1)]),
        )
        await bed.publish("t", made.epoch, "live")
        async with asyncio.timeout(5):
            while bed.pushes.seqs("t")[-1:] != [6]:
                await asyncio.sleep(0.01)
        assert bed.pushes.seqs("t") == [3, 4, 5, 6]
        assert any(isinstance(m, link.Ended) and m.topic_id == "x" for m in bed.pushes.messages)


async def test_topics_made_by_subscribing_are_rated_as_other_creations() -> None:
    async with running() as bed:

        async def makes(caller: Caller, topic_id: str) -> link.Subscribed:
            shard = bed.directory.shard_of(topic_id)
            answer = await bed.directory.ask(shard, lambda req: link.AskSubscribe(req, topic_id, caller, None, True))
            assert isinstance(answer, link.Subscribed)
            return answer

        for number in range(60):
            await makes(ANN, f"a{number}")
        with pytest.raises(Refusal, match="rate_limited") as refused:
            await makes(ANN, "one-more")
        assert refused.value.retry_after_ms is not None and 0 < refused.value.retry_after_ms <= 1_001
        assert (await makes(ANN, "a0")).count == 2, "what exists costs nothing"
        assert (await makes(Caller("bob"), "one-more")).count == 1, "another user, and nothing was left behind"
        for number in range(70):
            await makes(Caller("svc", service=True), f"s{number}")


async def test_positions_are_placed_by_the_owner() -> None:
    async with running() as bed:
        made = await bed.create("t")
        for n in range(5):
            await bed.publish("t", made.epoch, str(n))
        assert (await bed.subscribe("t", Position("earliest", 0, 0))).cursor == 0
        assert (await bed.subscribe("t", Position("last", 0, 2))).cursor == 3
        ahead = await bed.subscribe("t", Position("seq", made.epoch, 9))
        assert (ahead.cursor, ahead.resumed, ahead.reason) == (5, False, "ahead")
        other = await bed.subscribe("t", Position("seq", 7, 3))
        assert (other.cursor, other.reason) == (0, "epoch_changed")
        with pytest.raises(Refusal, match="topic_not_found"):
            await bed.subscribe("nowhere")


async def test_messages_arrive_before_the_verdicts_that_speak_of_them() -> None:
    """A publisher that hears "seq 3" over a link must find message 3 there already, not behind it."""
    async with running() as bed:
        made = await bed.create("t")
        await bed.subscribe("t")
        key, shard = topic_key("t"), bed.directory.shard_of("t")
        first = (await bed.log.bounds(LogName.MESSAGES, shard)).end
        heard: list[tuple[int, list[int]]] = []

        def answered(answer: link.Answer) -> None:
            assert isinstance(answer, link.Verdicts)
            heard.append((answer.verdicts[-1].seq, bed.pushes.seqs("t")))

        for record in range(3):
            bed.directory.request(shard, lambda req, at=first + record: link.AskVerdict(req, shard, at), answered)  # type: ignore[misc]
        await asyncio.sleep(0.05)  # the owner has the questions, and waits
        for record in range(3):
            items = [
                Item(keyed_id(key, "ann", f"{record}.{n}"), 1, b'"message_id":"x","publisher_id":"a","payload":1}')
                for n in range(5)
            ]
            bed.log.append(LogName.MESSAGES, shard, key, encode_bundle(items, made.epoch))
        async with asyncio.timeout(5):
            while len(heard) < 3:
                await asyncio.sleep(0.01)
        assert [seq for seq, _ in heard] == [5, 10, 15]
        assert all(seqs[-1] >= seq for seq, seqs in heard)


async def test_a_closed_link_leaves_no_waiter_behind() -> None:
    async with running() as bed:
        shard = bed.directory.shard_of("t")
        owner = bed.service.dispatcher.owners[shard]
        for offset in range(100):
            at = owner.shard.next_offset + 1_000 + offset
            bed.directory.request(shard, lambda req, at=at: link.AskVerdict(req, shard, at), lambda _: None)  # type: ignore[misc]
        await asyncio.sleep(0.05)
        assert owner.verdicts._waiting == 100
        bed.directory.nodes["node-1"].close("gone")
        async with asyncio.timeout(5):
            while owner.verdicts._waiting:
                await asyncio.sleep(0.01)
        assert not owner.verdicts._waiters
