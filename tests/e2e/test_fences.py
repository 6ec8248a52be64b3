"""Rights that change under load (Kafka): 50 listeners of a PUBLIC topic, 200 messages/s. It is made PRIVATE, members
are put out one by one, and the dispatcher that owns it is killed: nobody gets a message above his fence."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count

import msgspec

from headgate.core.wire.envelope import Kind, decode
from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e import ledger
from tests.e2e.clients import Publisher, Seen, SseReader, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, shards_of, token, until
from tests.e2e.http import NoAnswer
from tests.e2e.kafka_client import read_all

SHARDS = 4
TOPIC = "square"
MEMBERS = [f"member-{n:02}" for n in range(30)]
STRANGERS = [f"stranger-{n:02}" for n in range(20)]
PUT_OUT = 20
PUT_OUT_AT_KILL = 10  # the one whose record may be in the log without a fence that was sent
PER_S = 200
SSE_EVERY = 5  # each fifth listener reads SSE


class Paced:
    """Publishes PER_S messages a second, whether earlier ones have been answered or not; each until it is accepted."""

    def __init__(self, publisher: Publisher) -> None:
        self.acked: dict[str, str] = {}  # client_msg_id: message_id
        self._publisher = publisher
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Publishes until `stop`; returns when everything is accepted."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for n in count():
                if self._stop.is_set():
                    return
                tasks.create_task(self._send(f"n-{n}", n))
                await asyncio.sleep(max(0.0, began + (n + 1) / PER_S - time.monotonic()))

    def stop(self) -> None:
        """Publishes nothing new."""
        self._stop.set()

    async def _send(self, client_msg_id: str, n: int) -> None:
        async with asyncio.timeout(30):
            while True:
                answer = await self._publisher.publish(TOPIC, n, client_msg_id)
                if answer.status == 200:
                    self.acked[client_msg_id] = answer.body["message_id"]
                    return
                assert answer.status in (503, 504), answer
                await asyncio.sleep(0.05)


class Listener:
    """A user on one gateway, by WebSocket or SSE."""

    def __init__(self, user: str, number: int, gateway: str) -> None:
        self.user = user
        self.stream: Subscriber | SseReader
        if number % SSE_EVERY == 0:
            self.stream = SseReader(gateway, TOPIC, token=token(user))
        else:
            self.stream = Subscriber(user, [gateway], [TOPIC], token=token(user))

    @property
    def is_subscribed(self) -> bool:
        """Whether the stream has begun."""
        return self.stream.subscribed.is_set() if isinstance(self.stream, SseReader) else self.stream.connected

    @property
    def seen(self) -> Sequence[Seen]:
        """The messages that came."""
        return self.stream.messages if isinstance(self.stream, SseReader) else self.stream.messages[TOPIC]

    @property
    def reasons(self) -> list[str]:
        """Of all `unsubscribed`."""
        if isinstance(self.stream, SseReader):
            return [] if self.stream.reason is None else [self.stream.reason]
        return [frame["reason"] for frame in self.stream.of_type("unsubscribed")]

    async def ask_again(self) -> None:
        """Subscribes anew from where it was, where the transport can."""
        if isinstance(self.stream, Subscriber):
            await self.stream.ask(TOPIC)

    def check_refused(self) -> None:
        """Asserts that a second subscribe was refused, and that the topic is absent."""
        if isinstance(self.stream, Subscriber):
            assert [e["code"] for e in self.stream.of_type("error")] == ["topic_not_found"], self.stream.frames
            assert len(self.stream.of_type("subscribed")) == self.stream.connections == 1


async def test_nobody_gets_a_message_above_his_fence_and_everybody_else_gets_every_one(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2)
    await deployment.start(SHARDS)
    gateways = [gateway.url for gateway in deployment.gateways]
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(
            Publisher(deployment.ingests[0].url, token("root", service=True, admin=True))
        )
        assert (await admin.create(TOPIC)).status == 201
        answers = await asyncio.gather(*(admin.call("PUT", _member(user)) for user in MEMBERS))
        assert {answer.status for answer in answers} == {200}, answers
        users = enumerate([*MEMBERS, *STRANGERS])
        listeners = {user: Listener(user, n, gateways[n // 2 % 2]) for n, user in users}
        for listener in listeners.values():
            await stack.enter_async_context(listener.stream)
        await until("everybody is subscribed", lambda: all(x.is_subscribed for x in listeners.values()), 30)

        paced = Paced(admin)
        publishing = asyncio.create_task(paced.run())
        began = time.monotonic()
        await until("traffic flows", lambda: len(paced.acked) >= PER_S, 20)
        answer = await admin.call("PATCH", f"/api/v1/topics/{TOPIC}", {"permissions": "PRIVATE"})
        assert answer.status == 200, answer
        took = await _put_out(deployment, admin, listeners)
        enough = len(paced.acked) + PER_S
        await until("traffic goes on", lambda: len(paced.acked) >= enough, 20)
        paced.stop()
        await publishing
        lasted = time.monotonic() - began

        history = await admin.history(TOPIC)
        ledger.acknowledged_once(TOPIC, paced.acked, history)
        fences = await _fences(deployment, {m["message_id"]: m["seq"] for m in history})
        assert set(fences) == {*STRANGERS, *MEMBERS[:PUT_OUT]}
        total = len(history)
        stay = [listeners[user] for user in MEMBERS[PUT_OUT:]]
        await until("who stays has all", lambda: all(len(x.seen) >= total for x in stay), 20)
        await until("who is out knows", lambda: all(listeners[user].reasons for user in fences), 10)
        short = _check(listeners, fences, [m["message_id"] for m in history])
    figures.say(
        f"{len(listeners)} listeners on 2 gateways, {total} messages in {lasted:.1f} s; made PRIVATE at seq "
        f"{fences[STRANGERS[0]]}, {PUT_OUT} of {len(MEMBERS)} members put out at {fences[MEMBERS[0]]} to "
        f"{fences[MEMBERS[PUT_OUT - 1]]}, the owner killed at {fences[MEMBERS[PUT_OUT_AT_KILL]]} (the removal "
        f"under way took {took:.1f} s): nobody got a message above his fence, {len(stay)} got all, in order, once; "
        f"the one at the kill ended {short} before his fence"
    )


def _member(user: str) -> str:
    return f"/api/v1/topics/{TOPIC}/members/{user}"


async def _put_out(deployment: Deployment, admin: Publisher, listeners: dict[str, Listener]) -> float:
    """Puts members out; the owner dies with one of the removals under way. Returns the seconds that this one took."""
    took = 0.0
    for n, user in enumerate(MEMBERS[:PUT_OUT]):
        removal = asyncio.create_task(_remove(admin, user))
        if n == PUT_OUT_AT_KILL:
            owners = [d for d in deployment.dispatchers if shard_of(topic_key(TOPIC), SHARDS) in shards_of(d)]
            await asyncio.sleep(0.003)
            owners[-1].kill9()
        lasted = await removal
        took = lasted if n == PUT_OUT_AT_KILL else took
        await until("he is told", lambda user=user: listeners[user].reasons, 10)
        await listeners[user].ask_again()
        await asyncio.sleep(0.1)
    return took


async def _remove(admin: Publisher, user: str) -> float:
    began = time.monotonic()
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await admin.call("DELETE", _member(user))
            except NoAnswer:
                continue
            if answer.status == 204:
                return time.monotonic() - began
            assert answer.status in (503, 504), answer
            await asyncio.sleep(0.05)


async def _fences(deployment: Deployment, seqs: dict[str, int]) -> dict[str, int]:
    """Returns the seq before the record that ends each user's right, as the messages log orders them.

    The log has no seqs: a fence is the largest seq, by history, of the messages that stand before the record.
    """
    head = 0
    found: dict[str, int] = {}
    for record in await read_all(deployment.bootstrap, f"{deployment.prefix}.messages"):
        if record.key != topic_key(TOPIC):
            continue
        envelope = decode(record.value)
        for item in envelope.items:
            head = max(head, seqs[msgspec.json.decode(b"{" + item.tail)["message_id"]])
        if envelope.kind is Kind.CONTROL:
            body = msgspec.json.decode(envelope.body)
            if body["op"] == "unmember":
                found.setdefault(body["user_id"], head)
            elif body["op"] == "update":
                assert body["permissions"] == "PRIVATE"
                found |= dict.fromkeys(STRANGERS, head)
    return found


def _check(listeners: dict[str, Listener], fences: dict[str, int], order: list[str]) -> int:
    """Judges everybody's stream; returns how many messages the one at the kill has not got of those below his fence."""
    at_kill = MEMBERS[PUT_OUT_AT_KILL]
    for user, listener in listeners.items():
        seqs = [message.seq for message in listener.seen]
        ledger.dense(f"{TOPIC} at {user}", seqs)
        assert [m.message_id for m in listener.seen] == order[: len(seqs)], f"S1 one seq, one message: {user}"
        last = fences.get(user, len(order))
        assert len(seqs) <= last, f"Z1 nothing above the fence: {user} has {len(seqs)}, his fence is at {last}"
        if user != at_kill:
            assert len(seqs) == last, f"D1 everything up to the fence: {user} has {len(seqs)} of {last}"
        assert listener.reasons == (["forbidden"] if user in fences else []), user
    for user in MEMBERS[:PUT_OUT]:
        listeners[user].check_refused()
    return fences[at_kill] - len(listeners[at_kill].seen)
