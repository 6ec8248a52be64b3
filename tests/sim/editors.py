"""Users who edit, redact and react at random, and repeat what got no answer under the same id."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.core.wire.control import Actor
from headgate.core.wire.envelope import KEYED
from headgate.core.wire.errors import HeadgateError, Refusal
from headgate.core.wire.ids import id_bytes, keyed_id, topic_key
from headgate.core.wire.link import AskVerdict, Verdicts
from headgate.core.wire.link_messages import AskMessage, MessageAnswer
from headgate.core.wire.member_roles import Right
from headgate.core.wire.message_changes import (
    EditMessage,
    MessageChange,
    ReactToMessage,
    RedactMessage,
    encode_event,
    event_tail,
)
from headgate.core.wire.records import LogName
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code
from tests.sim.truth import Numbered

if TYPE_CHECKING:
    from tests.sim.world import World

TRIES: Final = 6
PATIENCE_S: Final = 3.0
NEWEST: Final = 6  # messages of a topic that are changed
REPEATED: Final = 0.2  # share of changes that are sent again although they were answered
PURPOSES: Final = ("edit",) * 6 + ("react",) * 8 + ("unreact",) * 3 + ("redact",) * 2


class Editor:
    """Makes `count` changes over the links and the log handle of an ingest, several at a time."""

    def __init__(self, world: "World", name: str, count: int) -> None:
        self.name = name
        self._world = world
        self._count = count
        self._rng = world.rng(f"editor:{name}")

    async def run(self) -> None:
        """Returns when the last change has an answer or was given up."""
        async with asyncio.TaskGroup() as tasks:
            for n in range(self._count):
                await asyncio.sleep(self._rng.expovariate(self._count / self._world.plan.active_s))
                tasks.create_task(self._change(n), name=f"{self.name}-{n}")

    async def _change(self, n: int) -> None:
        target = self._target()
        if target is None:
            return
        rng = self._rng
        wish = (rng.choice(PURPOSES), rng.choice(("+1", "x", "heart")))
        again = rng.random() < REPEATED
        change: MessageChange | None = None
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    change = change or await self._decided(target, *wish)
                    if change is None or (await self._append(target, change, n) and not again):
                        return
                    again = False
            except Refusal as refusal:
                self._world.trace("editor", f"{self.name}-{n} {wish[0]}: {refusal.code}")
                if refusal.code not in ("not_ready", "internal"):
                    return
            except (HeadgateError, TimeoutError):
                pass
            await asyncio.sleep(rng.random())

    def _target(self) -> Numbered | None:
        """Returns one of the newest messages of a topic that exists."""
        truth = self._world.truth
        truth.read_on()
        topic_id = self._rng.choice(self._world.plan.topics)
        kept = truth.messages.get((topic_id, truth.alive.get(topic_id, 0)), [])
        messages = [one for one in kept if one.change is None]
        return self._rng.choice(messages[-NEWEST:]) if messages else None

    def _ingest(self) -> Any:
        node = self._rng.choice(list(self._world.ingests.values()))
        if not node.up:
            raise Refusal("not_ready", "the ingest is down")
        return node

    async def _decided(self, target: Numbered, purpose: str, name: str) -> MessageChange | None:
        directory = self._ingest().directory
        shard = directory.shard_of(target.topic_id)
        caller, record_id = Caller(self.name, admin=True), id_bytes(target.id)
        answer = await directory.ask(
            shard, lambda req: AskMessage(req, shard, target.topic_id, caller, record_id, purpose, name)
        )
        assert isinstance(answer, MessageAnswer)
        if answer.settled:
            return None
        actor = Actor(self.name, given=Right.ALL)
        if purpose == "edit":
            return None if answer.redacted else EditMessage(answer.seq, answer.pos, answer.version, actor)
        if purpose == "redact":
            return RedactMessage(answer.seq, answer.pos, answer.own, actor)
        return ReactToMessage(answer.seq, answer.pos, name, purpose == "unreact", actor)

    async def _append(self, target: Numbered, change: MessageChange, n: int) -> bool:
        node, key = self._ingest(), topic_key(target.topic_id)
        shard = node.directory.shard_of(target.topic_id)
        record_id = keyed_id(key, self.name, f"change\0{n}")
        payload = b"null"
        if isinstance(change, EditMessage):
            payload = msgspec.json.encode({"by": self.name, "n": n, "edit": True})
        tail = event_tail(record_id, change, payload)
        value = encode_event(change, tail, target.epoch, record_id, KEYED)
        appended = await node.log.append(LogName.MESSAGES, shard, key, value)
        answer = await node.directory.ask(shard, lambda req: AskVerdict(req, shard, appended.offset))
        assert isinstance(answer, Verdicts)
        (verdict,) = answer.verdicts
        self._world.trace("editor", f"{self.name}-{n} {change}: {Code(verdict.code).name} {verdict.seq}")
        if verdict.code in (Code.CHANGED, Code.DUPLICATE) and verdict.seq:
            self._world.event_acks.append((target.topic_id, verdict.epoch, verdict.seq, record_id))
        return verdict.code != Code.UNKNOWN
