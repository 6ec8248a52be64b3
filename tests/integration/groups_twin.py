"""Two gateways over dispatchers on a given log, and members of consumer groups that connect to them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from os import urandom
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions, SnapshotOptions
from dispatcher.service import DispatcherService
from dispatcher.shard import ShardOwner
from headgate.core.client.limits import Limits
from headgate.core.publish.body import PublishBody, frame_tail
from headgate.core.wire.control import LOGIC, Actor, Control, CreateTopic, Logic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.link import AskVerdict, Verdicts
from headgate.core.wire.link_dead_letters import AskDeadLetters, ChangeDeadLetter, DeadLettersAnswer, LetterShown
from headgate.core.wire.message_changes import RedactMessage, encode_event, event_tail
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Verdict
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Link, Log, Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link
from tests.integration.cluster_twin import GatewayNode, token, until

OFTEN = SnapshotOptions(check_s=0.05, least_s=0.1, interval_s=0.2)


class Member:
    """One connection; unless `answers` says otherwise it acknowledges each message with an `id`.

    `got` are (seq, attempt) in the order of arrival, `keys` the keys by seq, `frames` all frames but messages.
    """

    def __init__(self, socket: ClientConnection, topic_id: str, answers: Callable[[int, int], str]) -> None:
        self.socket = socket
        self.topic_id = topic_id
        self.got: list[tuple[int, int]] = []
        self.messages: dict[int, dict[str, Any]] = {}
        self.frames: list[dict[str, Any]] = []
        self.stored: set[int] = set()
        self._answers = answers
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                frame = json.loads(text)
                if frame["type"] != "message":
                    self.frames.append(frame)
                    if frame["type"] == "ok" and frame["id"] > 0:
                        self.stored.add(frame["id"])
                    continue
                seq, attempt = frame["seq"], frame.get("attempt", 1)
                self.got.append((seq, attempt))
                self.messages[seq] = frame
                answer = self._answers(seq, attempt)
                if answer:
                    await self.answer(answer, seq)

    async def answer(self, kind: str, seq: int) -> None:
        await self.send(type=kind, topic_id=self.topic_id, seq=seq, id=seq if kind == "ack" else -seq)

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    def seqs(self) -> list[int]:
        return [seq for seq, _ in self.got]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]

    async def close(self) -> None:
        await self.socket.close()
        await self.task


class GroupsBed:
    """`dispatcher` serves all shards; `gateways` are two."""

    def __init__(self, log: Log, folder: Path | None) -> None:
        self.log = log
        self.folder = folder
        self.gateways = [GatewayNode(f"g{n}", Limits()) for n in range(2)]
        self.ingest = LinkDirectory("ingest", "i")
        self.service: DispatcherService | None = None
        self.metrics = Metrics({"dispatcher"})
        self.epochs: dict[str, int] = {}
        self.members: list[Member] = []
        self._links: list[Link] = []
        self._task: asyncio.Task[None] | None = None
        self._starts = 0

    async def start(self) -> None:
        """Starts a dispatcher, and links it to all."""
        self._starts += 1
        name = f"d{self._starts}"
        shell = Shell(SystemClock(), SystemRng(), self.metrics)
        options = DispatcherOptions(name, name, self.folder, snapshots=OFTEN, assignment=AssignmentOptions())
        self.service = DispatcherService(options, self.log, shell)
        self._task = asyncio.create_task(self.service.run())
        await self.service.ready.wait()
        for directory in [self.ingest, *(gateway.directory for gateway in self.gateways)]:
            near, far = encoded_link()
            self._links.append(far)
            self.service.accept(far)
            directory.add(near)
        await until(lambda: all(each.missing() is None for each in [self.ingest, *self._directories()]), 20)

    def _directories(self) -> list[LinkDirectory]:
        return [gateway.directory for gateway in self.gateways]

    async def kill(self, *, drain: bool = False) -> None:
        """Ends the dispatcher: its links are cut, or it drains first."""
        assert self.service is not None and self._task is not None
        if drain:
            await self.service.drain()
        for link in self._links:
            link.close("killed")
        self._links.clear()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def create(self, topic_id: str, **settings: Any) -> None:
        verdict = await self.control(topic_id, CreateTopic(topic_id, topic_id, "PUBLIC", "root", settings))
        self.epochs[topic_id] = verdict.epoch

    async def control(self, topic_id: str, control: Control) -> Verdict:
        key, epoch = topic_key(topic_id), self.epochs.get(topic_id, 0)
        return await self._verdict(topic_id, encode_control(encode_body(control), epoch, random_id(key, urandom(12))))

    async def publish(self, topic_id: str, payloads: Iterable[int], keys: int = 0) -> None:
        """Publishes numbers; with `keys` each has the key of its remainder."""
        for n in payloads:
            record_id = random_id(topic_key(topic_id), urandom(12))
            body = PublishBody(b"%d" % n, None, False, b"", key=b'"k%d"' % (n % keys) if keys else b"")
            item = Item(record_id, 0, frame_tail(record_id, "p", body))
            await self._verdict(topic_id, encode_message(item, self.epochs[topic_id]))

    async def redact(self, topic_id: str, seq: int) -> None:
        epoch, record_id = self.epochs[topic_id], random_id(topic_key(topic_id), urandom(12))
        kept = self.owner(topic_id).history.get(epoch, seq)
        assert kept is not None
        change = RedactMessage(seq, kept.pos, False, Actor("root"))
        await self._verdict(topic_id, encode_event(change, event_tail(record_id, change), epoch, record_id))

    def owner(self, topic_id: str) -> ShardOwner:
        assert self.service is not None
        return self.service.dispatcher.owners[self.ingest.shard_of(topic_id)]

    async def letters(self, topic_id: str, count: int) -> list[LetterShown]:
        """Waits until the topic has so many dead letters, and returns them."""
        shard = self.ingest.shard_of(topic_id)
        async with asyncio.timeout(20):
            while True:
                answer = await self.ingest.ask(
                    shard, lambda req: AskDeadLetters(req, shard, topic_id, Caller("root"), "", 100)
                )
                assert isinstance(answer, DeadLettersAnswer)
                if len(answer.letters) == count:
                    return answer.letters
                await asyncio.sleep(0.02)

    async def replay(self, topic_id: str, letter_id: str) -> None:
        shard = self.ingest.shard_of(topic_id)
        await self.ingest.ask(shard, lambda req: ChangeDeadLetter(req, shard, letter_id, Caller("root")))

    async def _verdict(self, topic_id: str, value: bytes) -> Verdict:
        shard = self.ingest.shard_of(topic_id)
        at = await self.log.append(LogName.MESSAGES, shard, topic_key(topic_id), value)
        async with asyncio.timeout(30):
            while True:
                try:
                    answer = await self.ingest.ask(shard, lambda req: AskVerdict(req, shard, at.offset))
                except Refusal as refusal:
                    assert refusal.code == "not_ready", refusal
                    await asyncio.sleep(0.02)
                else:
                    assert isinstance(answer, Verdicts)
                    return answer.verdicts[0]

    async def member(
        self,
        at: int,
        topic_id: str,
        group: str = "w",
        user: str = "bob",
        answers: Callable[[int, int], str] = lambda seq, attempt: "ack",
        begin: object = "live",
    ) -> Member:
        """Joins a group at a gateway."""
        address = f"127.0.0.1:{self.gateways[at].server.port}"
        socket = await connect(f"ws://{address}/ws/subscribe?token={token(user)}")
        member = Member(socket, topic_id, answers)
        self.members.append(member)
        await member.send(type="subscribe", topic_id=topic_id, ack=True, group=group, presence=False, **{"from": begin})
        await until(lambda: bool(member.of("subscribed") or member.of("error")), 20)
        return member


@asynccontextmanager
async def groups_bed(log: Log, folder: Path | None = None) -> AsyncIterator[GroupsBed]:
    bed = GroupsBed(log, folder)
    async with AsyncExitStack() as stack:
        await bed.start()
        for shard in range(bed.ingest.shards):
            await log.append(LogName.MESSAGES, shard, b"hg:logic", encode_control(encode_body(Logic(LOGIC)), 0))
        stack.push_async_callback(bed.kill)
        for gateway in bed.gateways:
            await stack.enter_async_context(gateway.serving())
        await until(lambda: all(gateway.server.port for gateway in bed.gateways))
        yield bed
        for member in bed.members:
            await member.close()
