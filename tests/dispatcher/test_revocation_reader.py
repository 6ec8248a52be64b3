"""The log of revocations is read before a link is accepted; links are told all of it, then what is new."""

import asyncio

import pytest

from dispatcher.dispatcher import Cluster
from dispatcher.dispatcher_options import DispatcherOptions
from dispatcher.revocation_reader import RevocationReader
from dispatcher.service import DispatcherService
from headgate.core.wire import link_hello
from headgate.core.wire.link_users import Redeem, Redeemed, Revocation, Revocations
from headgate.core.wire.records import LogName
from headgate.core.wire.revoked_tokens import record_of
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import LogUnavailable, Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.dispatcher.bed import CLOCK, dispatcher_of, shell_of, until
from tests.dispatcher.test_dispatcher import Far
from tests.dispatcher.test_links_and_requests import Pushes

ANN, BOB = Revocation("ann", "", 1_000), Revocation("", "bobs", 2_000)


async def a_log() -> FaultyLog:
    log = FaultyLog(MemoryStore(SystemClock(), SystemRng(), 2))
    await log.open()
    return log


async def append(log: FaultyLog, revocation: Revocation) -> None:
    await log.append(LogName.REVOCATIONS, 0, *record_of(revocation))


async def test_it_catches_up_with_what_is_there_and_reads_on() -> None:
    log, told = await a_log(), list[Revocation]()
    await append(log, ANN)
    await log.append(LogName.REVOCATIONS, 0, b"user:x", None)
    await log.append(LogName.REVOCATIONS, 0, b"user:x", b"junk")
    reader = RevocationReader(log, told.extend, CLOCK)
    await reader.catch_up()
    assert told == [ANN], "a removed record and one that cannot be read are left out"
    running = asyncio.create_task(reader.run())
    await append(log, BOB)
    await until(lambda: told == [ANN, BOB], 2)
    running.cancel()


async def test_an_empty_log_is_read_at_once() -> None:
    async with asyncio.timeout(0.5):
        await RevocationReader(await a_log(), lambda _: None, CLOCK).catch_up()


async def test_while_the_log_is_away_it_tries_again() -> None:
    log, told = await a_log(), list[Revocation]()
    log.reach = Reach.REFUSED
    reader = RevocationReader(log, told.extend, CLOCK)
    with pytest.raises(LogUnavailable):
        await reader.catch_up()
    running = asyncio.create_task(reader.run())
    log.reach = Reach.OK
    await append(log, ANN)
    await until(lambda: told == [ANN], 5)
    running.cancel()


async def test_a_link_is_told_everything_behind_its_welcome_then_news_once() -> None:
    dispatcher = dispatcher_of(shell_of())
    dispatcher.log_was_read(Cluster("c", 1, 1))
    dispatcher.revoke([ANN])
    far = Far(dispatcher, None)
    far.wire.send(link_hello.Hello(1, 2, "gateway", "g", "", 0))
    assert isinstance(await far.answer(), link_hello.Welcome)
    assert await far.answer() == Revocations([ANN])
    dispatcher.revoke([ANN])
    dispatcher.revoke([ANN, BOB])
    assert await far.answer() == Revocations([BOB])
    assert far.got == []


async def test_a_link_of_version_1_is_told_nothing_that_it_cannot_read() -> None:
    dispatcher = dispatcher_of(shell_of())
    dispatcher.log_was_read(Cluster("c", 1, 1))
    dispatcher.revoke([ANN])
    far = Far(dispatcher)
    assert isinstance(await far.answer(), link_hello.Welcome)
    dispatcher.revoke([BOB])
    await asyncio.sleep(0.05)
    assert far.got == [] and far.reasons == []


async def test_a_dispatcher_that_starts_again_tells_what_was_revoked_before_any_topic() -> None:
    log = await a_log()
    await append(log, ANN)
    clock, rng = SystemClock(), SystemRng()
    service = DispatcherService(DispatcherOptions("n", "h:1", None), log, Shell(clock, rng, Metrics({"dispatcher"})))
    running = asyncio.create_task(service.run())
    await service.ready.wait()
    near, far = encoded_link()
    service.accept(far)
    directory, pushes = LinkDirectory("gateway", "g"), Pushes()
    directory.deliver_to(pushes)
    directory.add(near)
    await until(lambda: directory.missing() is None)
    assert pushes.messages[0] == Revocations([ANN])
    await append(log, BOB)
    await until(lambda: pushes.messages[-1] == Revocations([BOB]), 2)
    now_ms = clock.wall_ms()
    shard = directory.shard_of("ann")
    ticket = [await directory.ask(shard, lambda req: Redeem(req, "ann", "t", now_ms, now_ms + 30_000))]
    assert isinstance(ticket[0], Redeemed)
    with pytest.raises(Exception, match="used"):
        await directory.ask(shard, lambda req: Redeem(req, "ann", "t", now_ms, now_ms + 30_000))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
