"""Owners that crash between an append and its answer, again and again: no letter is lost, doubled or brought back."""

import asyncio
from typing import Any

import pytest

from dispatcher.dispatcher import Dispatcher
from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from dispatcher.shard_runner import ShardRunner
from headgate.core.delivery.dead_letter_record import DeadLetter, LetterAdded, decode_letter
from headgate.core.wire import link
from headgate.core.wire.link_dead_letters import (
    AskDeadLetters,
    ChangeDeadLetter,
    DeadLetterChanged,
    GivenUp,
    GiveUp,
    LetterDone,
    Receiver,
    WantReplays,
)
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.dispatcher.bed import dispatcher_of, node_of, shell_of
from tests.dispatcher.letters_bed import redelivered
from tests.dispatcher.members_bed import Far
from tests.dispatcher.test_recovery import TOPIC, create, fill

OPTIONS = ShardOptions(
    snapshots=SnapshotOptions(check_s=0.01, least_s=0.0, interval_s=0.03, changes=3, base_s=0.3), retry_s=0.05
)
LATENCY = {LogName.DEAD_LETTERS: 0.03, LogName.SNAPSHOTS: 0.01}
ANN = Caller("ann")
MESSAGES = 8
DEVICES = ("phone", "laptop")
CRASHES = 6
ANSWER_S = 1.0


class CrashingLetters(FaultyLog):
    """A node's log that crashes at an append to the dead letters, which may still arrive."""

    def __init__(self, store: MemoryStore, crash_at: int, *, arrives: bool) -> None:
        super().__init__(store, lambda name, shard: LATENCY.get(name, 0.001))
        self.left = crash_at
        self.crashed = asyncio.Event()
        self._arrives = arrives

    def append(self, log: LogName, shard: int, key: Any, value: Any) -> Any:
        future = super().append(log, shard, key, value)
        if log is LogName.DEAD_LETTERS:
            self.left -= 1
            if self.left == 0:
                self.crash(None if self._arrives else lambda under_way: under_way // 2)
                self.crashed.set()
        return future


class Owners:
    """Shard 0 on one node after another; `expected` is the state that the letter of a delivery must have in the end."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.rng = SeededRng(seed)
        self.store = MemoryStore(loop, SeededRng(1), 1, 1 << 28)
        self.epoch = 0
        self.expected: dict[tuple[int, str], str] = {}
        self.dispatcher: Dispatcher | None = None
        self.runner: ShardRunner | None = None

    async def serve(self, crash_at: int, *, arrives: bool = True) -> "asyncio.Task[None]":
        log = CrashingLetters(self.store, crash_at, arrives=arrives)
        await log.open()
        shell = shell_of(self.loop)
        self.dispatcher = dispatcher_of(shell, log)
        self.runner = ShardRunner(0, 1, node_of(log, self.dispatcher, shell, OPTIONS), self.dispatcher)
        task = asyncio.create_task(self.runner.run())

        async def life() -> None:
            try:
                await log.crashed.wait()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        return asyncio.create_task(life())

    async def play(self) -> None:
        log = FaultyLog(self.store)
        await log.open()
        self.epoch = await create(log)
        await fill(log, 0, MESSAGES, self.epoch)
        receivers = [(seq, device) for seq in range(1, MESSAGES + 1) for device in DEVICES]
        working = asyncio.gather(*(self._worker(seq, device) for seq, device in receivers))
        for _ in range(CRASHES):
            node = await self.serve(self.rng.randrange(1, 12), arrives=self.rng.random() < 0.5)
            both: list[asyncio.Future[Any]] = [node, working]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            node.cancel()
            await asyncio.gather(node, return_exceptions=True)
        last = await self.serve(1 << 30)
        await asyncio.wait_for(working, 300)
        await self._check()
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)

    async def ask(self, build: Any, peer: Far | None = None) -> Any:
        """Returns the answer of whoever serves; asks again until there is one."""
        while True:
            peer = peer or Far()
            api = self.dispatcher.api(0) if self.dispatcher is not None else None
            if api is not None:
                api.handle(peer, build)
                for _ in range(100):
                    found = [m for m in peer.sent if getattr(m, "req", None) == build.req]
                    if found and getattr(found[0], "code", "") not in ("not_ready", "outcome_unknown"):
                        return found[0]
                    if found:
                        break
                    await asyncio.sleep(ANSWER_S / 100)
                peer.sent.clear()
            await asyncio.sleep(0.02)

    async def _worker(self, seq: int, device: str) -> None:
        """Gives one delivery up, and lets a person do something with its letter."""
        receiver, name = Receiver("bob", device), (seq, device)
        for _ in range(self.rng.randrange(1, 4)):
            await asyncio.sleep(self.rng.random())
            assert isinstance(await self._give_up(seq, receiver), GivenUp)
            letter_id = await self._letter_of(seq, receiver)
            self.expected[name] = "open"
            choice = self.rng.random()
            if choice < 0.3:
                await self.ask(ChangeDeadLetter(1, 0, letter_id, ANN, True))
                self.expected.pop(name)
            elif choice < 0.8:
                answer = await self.ask(ChangeDeadLetter(1, 0, letter_id, ANN))
                assert isinstance(answer, DeadLetterChanged), answer
                self.expected[name] = "replayed"
                if choice < 0.6:
                    await self._acknowledge(letter_id, receiver)
                    self.expected.pop(name)

    async def _give_up(self, seq: int, receiver: Receiver) -> Any:
        return await self.ask(GiveUp(1, TOPIC, self.epoch, seq, receiver, 3, "max_attempts", "e"))

    async def _letter_of(self, seq: int, receiver: Receiver) -> str:
        """A letter that was given up is in the list, once."""
        answer = await self.ask(AskDeadLetters(1, 0, TOPIC, ANN, "", 100))
        (found,) = (one.id for one in answer.letters if (one.seq, one.receiver) == (seq, receiver))
        return str(found)

    async def _acknowledge(self, letter_id: str, receiver: Receiver) -> None:
        """The gateway has the message, and says that it is acknowledged whenever it is sent again."""
        while True:
            api = self.dispatcher.api(0) if self.dispatcher is not None else None
            if api is not None:
                peer = Far()
                api.handle(peer, WantReplays(TOPIC, self.epoch, receiver))
                for again in redelivered(peer):
                    if again.id == letter_id:
                        api.handle(peer, LetterDone(TOPIC, self.epoch, letter_id))
            await asyncio.sleep(0.1)
            answer = await self.ask(AskDeadLetters(1, 0, "", ANN, "", 1, letter_id))
            if isinstance(answer, link.Refused):
                assert answer.code == "not_found", answer
                return

    async def _check(self) -> None:
        assert self.runner is not None
        assert self.runner.owner is not None
        store = self.runner.owner.letters.store
        found = {(one.seq, one.device_id): "replayed" if store.is_replayed(one.id) else "open" for one in store}
        assert found == self.expected
        assert len(store) == len(found), "one letter for each delivery"
        part = self.store.parts[LogName.DEAD_LETTERS, 0]
        records = [decode_letter(record.value) for record in part.slice(part.first, 1 << 30).records]
        letters: list[DeadLetter] = [record.letter for record in records if isinstance(record, LetterAdded)]
        assert {one.id for one in store} <= {one.id for one in letters}


@pytest.mark.parametrize("seed", range(30))
def test_letters_of_owners_that_crash(seed: int) -> None:
    loop = VirtualLoop()
    run(loop, Owners(loop, seed).play())
