"""Publishers and the topics' keeper over the production ingest: they retry what is unknown under the same id."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.sim.plan import RETRY

if TYPE_CHECKING:
    from tests.sim.world import World

_encode: Final = msgspec.json.encode
PATIENCE_S: Final = 12.0  # a client's own time-out
KEEPER: Final = "keeper"


class Lost(Exception):
    """No answer came: nobody knows what became of the request."""


class NotSent(Exception):
    """No connection: the request never left."""


@dataclass
class Ack:
    """One answer 200: when, and the seq it named (0: none)."""

    at: float
    seq: int
    epoch: int


@dataclass
class Sent:
    """One message of a publisher and what it was told of it. `unknown`: an attempt whose fate nobody knows."""

    publisher: str
    topic_id: str
    number: int
    keyed: bool
    first_at: float
    client_msg_id: str | None
    message_id: str = ""
    acks: list[Ack] = field(default_factory=list)
    unknown: bool = False
    refusals: list[str] = field(default_factory=list)
    last: str = ""  # the code of the last answer
    batch: int = -1

    @property
    def payload(self) -> dict[str, Any]:
        """What identifies it everywhere."""
        return {"by": self.publisher, "n": self.number}

    def __str__(self) -> str:
        return f"{self.publisher}#{self.number} to {self.topic_id} ({self.client_msg_id})"


async def call(
    world: "World", rng: Any, ingest: str, method: str, path: str, user: str, body: bytes = b"", query: str = ""
) -> tuple[int, Any]:
    """Makes one HTTP request. Raises NotSent or Lost."""
    await asyncio.sleep(0.0003 + rng.random() * 0.003)
    node = world.ingests[ingest]
    if not node.up:
        raise NotSent
    task = node.request(method, path, query, user, body)
    await asyncio.wait({task}, timeout=PATIENCE_S)
    if not task.done() or task.cancelled() or rng.random() < 0.01:
        raise Lost
    await asyncio.sleep(0.0003 + rng.random() * 0.003)
    return task.result()


class Publisher:
    """Sends `count` messages, some in batches, several at a time."""

    def __init__(self, world: "World", name: str, count: int) -> None:
        self.name = name
        self.sent: list[Sent] = []
        self._world = world
        self._rng = world.rng(f"publisher:{name}")
        self._count = count

    async def run(self) -> None:
        """Publishes everything; returns when the last message has an answer or was given up."""
        plan, rng = self._world.plan, self._rng
        pace = plan.active_s / max(1, self._count)
        if plan.is_wide:  # a request carries many messages
            pace *= 1 + plan.batch_share * sum(plan.batch) / 2
        ends = self._world.loop.now() + plan.active_s if plan.is_wide else float("inf")
        async with asyncio.TaskGroup() as tasks:
            while len(self.sent) < self._count and self._world.loop.now() < ends:
                await asyncio.sleep(min(rng.expovariate(1 / pace), ends - self._world.loop.now()))
                topic_id = rng.choice(plan.topics)
                if rng.random() < plan.batch_share:
                    batch = [self._new(topic_id, keyed=self._keyed()) for _ in range(self._size())]
                    tasks.create_task(self._publish_batch(batch), name=f"{self.name}-{batch[0].number}")
                else:
                    sent = self._new(topic_id, keyed=rng.random() < 0.8)
                    tasks.create_task(self._publish(sent), name=f"{self.name}-{sent.number}")

    def _size(self) -> int:
        plan, rng = self._world.plan, self._rng
        if plan.full_batches and rng.random() < plan.full_batches:
            return plan.batch[1]
        return rng.randint(*plan.batch)

    def _keyed(self) -> bool:
        unkeyed = self._world.plan.unkeyed
        return not unkeyed or self._rng.random() >= unkeyed

    def _new(self, topic_id: str, *, keyed: bool) -> Sent:
        number = len(self.sent)
        sent = Sent(
            self.name, topic_id, number, keyed, self._world.loop.now(), f"{self.name}-{number}" if keyed else None
        )
        self.sent.append(sent)
        return sent

    async def _publish(self, sent: Sent) -> None:
        """Tries until the outcome is known or it is given up; now and then repeats what is known already."""
        while True:
            query = "wait=sequenced" if self._rng.random() < 0.4 else ""
            path = f"/api/v1/topics/{sent.topic_id}/publish"
            again = await self._attempt([sent], path, self._body(sent), query)
            if not again and not (sent.acks and sent.keyed and self._rng.random() < 0.1):
                return
            await asyncio.sleep(self._rng.random() * 1.5)

    async def _publish_batch(self, batch: list[Sent]) -> None:
        for sent in batch:
            sent.batch = batch[0].number
        open_ = batch
        while open_:
            body = b"[" + b",".join(self._body(sent) for sent in open_) + b"]"
            path = f"/api/v1/topics/{open_[0].topic_id}/publish/batch"
            if not await self._attempt(open_, path, body, ""):
                break
            open_ = [sent for sent in open_ if not sent.acks and self._retries(sent)]
            await asyncio.sleep(self._rng.random() * 1.5)
        if self._world.plan.repeats and self._rng.random() < self._world.plan.repeats:
            await self._repeat([sent for sent in batch if sent.keyed and sent.acks])

    async def _repeat(self, batch: list[Sent]) -> None:
        """Sends again what is known already: the whole batch, or single items out of it."""
        await asyncio.sleep(self._rng.random() * 1.5)
        if self._rng.random() < 0.5:
            for sent in self._rng.sample(batch, min(len(batch), 3)):
                path = f"/api/v1/topics/{sent.topic_id}/publish"
                await self._attempt([sent], path, self._body(sent), "wait=sequenced")
        elif batch:
            body = b"[" + b",".join(self._body(sent) for sent in batch) + b"]"
            await self._attempt(batch, f"/api/v1/topics/{batch[0].topic_id}/publish/batch", body, "")

    def _body(self, sent: Sent) -> bytes:
        body: dict[str, Any] = {"payload": sent.payload | {"pad": "x" * self._world.plan.pad}}
        if sent.client_msg_id is not None:
            body["client_msg_id"] = sent.client_msg_id
        return _encode(body)

    async def _attempt(self, batch: list[Sent], path: str, body: bytes, query: str) -> bool:
        """One request; says whether another one makes sense."""
        ingest = self._rng.choice(list(self._world.ingests))
        try:
            status, answer = await call(self._world, self._rng, ingest, "POST", path, self.name, body, query)
        except NotSent:
            return True
        except Lost:
            for sent in batch:
                sent.unknown = True
            return any(sent.client_msg_id is not None for sent in batch) and self._world.is_active
        answers = answer["results"] if status == 200 and "results" in answer else [answer] * len(batch)
        for sent, item in zip(batch, answers, strict=True):
            self._note(sent, item)
        return any(not sent.acks and self._retries(sent) for sent in batch)

    def _note(self, sent: Sent, answer: dict[str, Any]) -> None:
        """Takes one answer: the publish's own, or the problem's."""
        world = self._world
        code = answer.get("code")
        world.trace("publish", f"{sent}: {code or 'ok'} {answer.get('seq', '')}")
        sent.last = code or ""
        sent.message_id = answer.get("message_id", sent.message_id)
        sent.client_msg_id = answer.get("client_msg_id", sent.client_msg_id)
        if code is None:
            sent.acks.append(Ack(world.loop.now(), answer.get("seq", 0), answer.get("epoch", 0)))
        elif code == "outcome_unknown":
            sent.unknown = True
        elif code in _REFUSALS:
            sent.refusals.append(code)
        else:
            world.violate("X1", f"{sent}: unexpected answer {answer}")

    def _retries(self, sent: Sent) -> bool:
        if sent.last == "topic_not_found":
            return False
        if sent.unknown:
            return sent.client_msg_id is not None and self._rng.random() < 0.95
        return not sent.refusals or self._rng.random() < 0.7


_REFUSALS: Final = frozenset({"log_unavailable", "not_ready", "queue_full", "topic_not_found"})


class Keeper:
    """Creates and deletes topics, insisting until the outcome is known."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = world.rng("keeper")
        self._keys = 0

    async def create(self, topic_id: str) -> None:
        """Creates a topic; one that exists is as good."""
        settings: dict[str, Any] = {"presence": "list"}
        if self._world.plan.batched:
            settings["strategy"] = {"kind": "batched", "max_messages": 3, "max_delay_ms": 400}
        if self._world.plan.ackers:
            settings["retry"] = RETRY
        permissions = self._world.plan.permissions
        body = _encode({"topic_id": topic_id, "name": topic_id, "permissions": permissions, "settings": settings})
        await self._insist("POST", "/api/v1/topics", body, (201, 409))

    async def delete(self, topic_id: str) -> None:
        """Deletes a topic; one that is not there is as good."""
        await self._insist("DELETE", f"/api/v1/topics/{topic_id}", b"", (204, 404))

    async def _insist(self, method: str, path: str, body: bytes, good: tuple[int, ...]) -> None:
        while True:
            ingest = self._rng.choice(list(self._world.ingests))
            try:
                status, answer = await call(self._world, self._rng, ingest, method, path, KEEPER, body)
            except (NotSent, Lost):
                status, answer = 0, None
            code = answer.get("code", "") if answer else ""
            self._world.trace("keeper", f"{method} {path} {body.decode()}: {status} {code}")
            if status in good:
                return
            if status not in (0, 503, 504):
                self._world.violate("X1", f"{method} {path}: unexpected answer {answer}")
            await asyncio.sleep(0.1 + self._rng.random())
