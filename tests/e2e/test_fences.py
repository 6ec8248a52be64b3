"""Rights that change under load (Kafka): 50 listeners of PUBLIC topics, 200 messages/s. The topics are made PRIVATE,
members are put out, and meanwhile the dispatcher that owns the topics and then a gateway are killed: nobody gets a
message above his fence."""

import asyncio
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec

from headgate.core.wire.envelope import Kind, decode
from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e import ledger
from tests.e2e.clients import Publisher, Seen, SseReader, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Role, Stage, shards_of, token, until
from tests.e2e.kafka_client import read_all

SHARDS: Final = 4
SQUARE: Final = "square"  # made PRIVATE while its owner works; its members are put out one by one
SHARD: Final = shard_of(topic_key(SQUARE), SHARDS)
# Of the same owner; made PRIVATE while there is none.
COURT: Final = next(name for n in count() if shard_of(topic_key(name := f"court-{n}"), SHARDS) == SHARD)
MEMBERS: Final = [f"member-{n:02}" for n in range(30)]
STRANGERS: Final = [f"stranger-{n:02}" for n in range(14)]
COURTIERS: Final = [f"courtier-{n:02}" for n in range(6)]  # no members of COURT, but for the last two
STAY: Final = {SQUARE: MEMBERS[20:], COURT: COURTIERS[-2:]}
PER_S: Final = 200
COURT_EVERY: Final = 10  # each tenth message is for COURT
SSE_EVERY: Final = 5  # each fifth listener reads SSE, at the gateway that lives
STEP_S: Final = 0.001  # a removal takes about 10 ms: ingest asks the owner, appends, and waits for the owner's verdict
STEPS: Final = 8  # then the owner has stood still for about 3 s: it may do so for 5


class Paced:
    """Publishes PER_S messages a second, whether earlier ones have been answered or not; each until it is accepted."""

    def __init__(self, publisher: Publisher) -> None:
        self.acked: dict[str, dict[str, str]] = {SQUARE: {}, COURT: {}}  # by topic: client_msg_id to message_id
        self._publisher = publisher
        self._stop = asyncio.Event()

    @property
    def total(self) -> int:
        """Messages that were accepted."""
        return sum(map(len, self.acked.values()))

    async def run(self) -> None:
        """Publishes until `stop`; returns when everything is accepted."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for n in count():
                if self._stop.is_set():
                    return
                tasks.create_task(self._send(COURT if n % COURT_EVERY == 0 else SQUARE, f"n-{n}", n))
                await asyncio.sleep(max(0.0, began + (n + 1) / PER_S - time.monotonic()))

    def stop(self) -> None:
        """Publishes nothing new."""
        self._stop.set()

    async def _send(self, topic: str, client_msg_id: str, n: int) -> None:
        async with asyncio.timeout(30):
            while True:
                answer = await self._publisher.publish(topic, n, client_msg_id)
                if answer.status == 200:
                    self.acked[topic][client_msg_id] = answer.body["message_id"]
                    return
                assert answer.status in (503, 504), answer
                await asyncio.sleep(0.05)


class Listener:
    """A user who follows one topic, by WebSocket (at the first gateway that answers) or by SSE."""

    def __init__(self, user: str, topic: str, number: int, gateways: Sequence[str]) -> None:
        self.user, self.topic = user, topic
        self.gateways = gateways if number % SSE_EVERY == 0 or number // 2 % 2 == 0 else gateways[::-1]
        self.stream: Subscriber | SseReader
        if number % SSE_EVERY == 0:
            self.stream = SseReader(self.gateways[0], topic, token=token(user))
        else:
            self.stream = Subscriber(user, self.gateways, [topic], token=token(user))

    @property
    def is_subscribed(self) -> bool:
        """Whether the stream has begun."""
        return self.stream.subscribed.is_set() if isinstance(self.stream, SseReader) else self.stream.connected

    @property
    def seen(self) -> Sequence[Seen]:
        """The messages that came."""
        return self.stream.messages if isinstance(self.stream, SseReader) else self.stream.messages[self.topic]

    @property
    def reasons(self) -> list[str]:
        """Of all `unsubscribed`."""
        if isinstance(self.stream, SseReader):
            return [] if self.stream.reason is None else [self.stream.reason]
        return [frame["reason"] for frame in self.stream.of_type("unsubscribed")]

    @property
    def refusals(self) -> list[str]:
        """Of all subscribes."""
        return [] if isinstance(self.stream, SseReader) else [e["code"] for e in self.stream.of_type("error")]

    @property
    def is_out(self) -> bool:
        """Whether the stream has ended and, where the transport can ask again, was refused."""
        return bool(self.reasons if isinstance(self.stream, SseReader) else self.refusals)

    async def ask_again(self) -> None:
        """Subscribes anew from where it was, where the transport can."""
        if isinstance(self.stream, Subscriber):
            await self.stream.ask(self.topic)


class Removals:
    """Puts members of SQUARE out, each while something else happens; knows who may end below his fence."""

    def __init__(self, deployment: Deployment, admin: Publisher, listeners: dict[str, Listener]) -> None:
        self.short: set[str] = set()  # put out while their frames had no way to them
        self.under_way = ""  # the one whose removal was in the log without an answer at the kill
        self.took_s = 0.0  # his removal
        self.refused: list[int] = []  # the answers to changes before the one that did them, while no owner was there
        self._deployment = deployment
        self._admin = admin
        self._listeners = listeners
        self._left = [user for user in MEMBERS if user not in STAY[SQUARE]]

    async def one_by_one(self, number: int) -> None:
        """Puts members out and has each ask again."""
        for _ in range(number):
            user = self._left.pop(0)
            await self._put_out(user)
            await self._told(user)

    async def at_the_kill_of_the_owner(self) -> None:
        """Kills the owner when it stands still with a removal in the log that it has not read."""
        owner = [d for d in self._deployment.dispatchers if SHARD in shards_of(d)][-1]
        user, removal = await self._stopped_with_a_removal_under_way(owner)
        owner.kill9()
        self.under_way = user
        self.short.add(user)
        await asyncio.gather(self._while_there_is_no_owner(4), self._ends(removal))
        await self._told(user)

    async def at_the_kill_of_a_gateway(self, gateway: Role, number: int) -> None:
        """Puts members out, those of the dead gateway too, who come back at the other one."""
        away = [user for user in self._left if self._at(user, gateway)][: number // 2]
        users = away + [user for user in self._left if user not in away][: number - len(away)]
        assert len(away) == number // 2
        self._left = [user for user in self._left if user not in users]
        self.short |= set(away)
        gateway.kill9()
        for user in users:
            await self._put_out(user)
        for user in users:
            await self._told(user)

    def left_have(self, messages: int) -> bool:
        """Returns whether all who are still to be put out have that many messages of SQUARE."""
        return all(len(self._listeners[user].seen) >= messages for user in self._left)

    async def the_rest(self) -> None:
        """Puts out who is left."""
        await self.one_by_one(len(self._left))

    def said(self) -> str:
        """Returns what happened, for a person."""
        return (
            f"the owner killed with the removal of {self.under_way} in the log and not read (it took {self.took_s:.1f} "
            f"s), 4 removals and a topic made PRIVATE while there was none ({len(self.refused)} times refused), then a "
            f"gateway killed"
        )

    async def _stopped_with_a_removal_under_way(self, owner: Role) -> tuple[str, "asyncio.Task[list[int]]"]:
        """Lets the owner run for STEP_S at a time until a removal is in the log, and has no answer."""
        while True:
            user = self._left.pop(0)
            owner.signal(signal.SIGSTOP)
            removal = asyncio.create_task(self._put_out(user))
            for _ in range(STEPS):
                owner.signal(signal.SIGCONT)
                await asyncio.sleep(STEP_S)
                owner.signal(signal.SIGSTOP)
                await asyncio.sleep(0.1)  # ingest goes on: it gets what the owner sent, and appends
                if removal.done():
                    break
                if user in {ending.user_id for ending in await endings(self._deployment)}:
                    return user, removal
            owner.signal(signal.SIGCONT)
            await removal
            await self._told(user)

    async def _while_there_is_no_owner(self, number: int) -> None:
        users, self._left = self._left[:number], self._left[number:]
        self.short |= {*users, *COURTIERS}
        answers = await asyncio.gather(
            self._change("PATCH", f"/api/v1/topics/{COURT}", {"permissions": "PRIVATE"}), *map(self._put_out, users)
        )
        assert all(answers), f"each was refused while there was no owner: {answers}"
        self.refused = [status for refused in answers for status in refused]
        for user in users:
            await self._told(user)

    async def _ends(self, removal: "asyncio.Task[list[int]]") -> None:
        began = time.monotonic()
        await removal
        self.took_s = time.monotonic() - began

    async def _put_out(self, user: str) -> list[int]:
        return await self._change("DELETE", f"/api/v1/topics/{SQUARE}/members/{user}")

    async def _change(self, method: str, path: str, body: object = None) -> list[int]:
        """Repeats a change until it is done; returns the answers before."""
        refused: list[int] = []
        async with asyncio.timeout(30):
            while (answer := await self._admin.call(method, path, body)).status not in (200, 204):
                assert answer.status in (503, 504), answer
                refused.append(answer.status)
                await asyncio.sleep(0.05)
        return refused

    async def _told(self, user: str) -> None:
        listener = self._listeners[user]
        await until(f"{user} is told", lambda: listener.reasons or listener.refusals, 10)
        await listener.ask_again()

    def _at(self, user: str, gateway: Role) -> bool:
        return self._listeners[user].gateways[0] == gateway.url


class Ending(NamedTuple):
    """The end of a right in the messages log: of one member, or (`user_id` empty) of all who are no members.

    `before`: the ids of the topic's messages that stand before it.
    """

    topic: str
    user_id: str
    before: frozenset[str]


async def endings(deployment: Deployment) -> list[Ending]:
    """Returns the ends of rights that stand in the log now, in their order."""
    topics = {topic_key(topic): topic for topic in (SQUARE, COURT)}
    before: dict[str, set[str]] = {SQUARE: set(), COURT: set()}
    found = []
    for record in await read_all(deployment.bootstrap, f"{deployment.prefix}.messages"):
        topic = topics.get(record.key)
        if topic is None:
            continue
        envelope = decode(record.value)
        before[topic] |= {msgspec.json.decode(b"{" + item.tail)["message_id"] for item in envelope.items}
        if envelope.kind is Kind.CONTROL:
            body: dict[str, Any] = msgspec.json.decode(envelope.body)
            if body["op"] in ("unmember", "update"):
                assert body.get("permissions") in (None, "PRIVATE")
                found.append(Ending(topic, body.get("user_id", ""), frozenset(before[topic])))
    return found


async def fences_of(deployment: Deployment, order: dict[str, list[str]]) -> dict[str, int]:
    """Returns the seq before the record that ends each user's right, by the history's `order` of message ids.

    The log has no seqs. A repeat of a change ends nothing.
    """
    fences: dict[str, int] = {}
    for topic, user_id, before in await endings(deployment):
        head = max((seq for seq, message_id in enumerate(order[topic], 1) if message_id in before), default=0)
        everybody = STRANGERS if topic == SQUARE else COURTIERS[:-2]
        for user in [user_id] if user_id else everybody:
            fences.setdefault(user, head)
    return fences


def check(listeners: Iterable[Listener], fences: dict[str, int], short: set[str], order: dict[str, list[str]]) -> None:
    """Judges every stream; those in `short` may end below their fence, all others have everything up to it."""
    for listener in listeners:
        user, ids = listener.user, order[listener.topic]
        seen = [(message.seq, message.message_id) for message in listener.seen]
        fence = fences.get(user)
        ledger.fenced(listener.topic, user, seen, ids, fence, short=user in short)
        if fence is None:
            assert not listener.reasons and not listener.refusals, user
            continue
        assert listener.is_out, user
        assert set(listener.refusals) <= {"topic_not_found"} and set(listener.reasons) <= {"forbidden"}, user
        if isinstance(listener.stream, Subscriber):
            assert len(listener.stream.of_type("subscribed")) == 1 or listener.stream.closes, user


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
        await admin.create_all([SQUARE, COURT])
        members = [(SQUARE, user) for user in MEMBERS] + [(COURT, user) for user in STAY[COURT]]
        puts = [admin.call("PUT", f"/api/v1/topics/{topic}/members/{user}") for topic, user in members]
        assert {answer.status for answer in await asyncio.gather(*puts)} == {200}
        listeners = {user: Listener(user, SQUARE, n, gateways) for n, user in enumerate([*MEMBERS, *STRANGERS])}
        listeners |= {user: Listener(user, COURT, n, gateways) for n, user in enumerate(COURTIERS)}
        for listener in listeners.values():
            await stack.enter_async_context(listener.stream)
        await until("everybody is subscribed", lambda: all(x.is_subscribed for x in listeners.values()), 30)

        paced = Paced(admin)
        publishing = asyncio.create_task(paced.run())
        began = time.monotonic()
        await until("traffic flows", lambda: paced.total >= PER_S, 20)
        answer = await admin.call("PATCH", f"/api/v1/topics/{SQUARE}", {"permissions": "PRIVATE"})
        assert answer.status == 200, answer
        removals = Removals(deployment, admin, listeners)
        await removals.one_by_one(3)
        await removals.at_the_kill_of_the_owner()
        await removals.at_the_kill_of_a_gateway(deployment.gateways[1], 4)
        published = len(paced.acked[SQUARE])  # whoever lost his gateway and is put out before he is back ends short
        await until("who lost a gateway is back", lambda: removals.left_have(published), 30)
        await removals.the_rest()
        enough = paced.total + PER_S
        await until("traffic goes on", lambda: paced.total >= enough, 20)
        paced.stop()
        await publishing
        lasted = time.monotonic() - began
        for topic in (SQUARE, COURT):  # what was answered 200 is in the log, and a moment later in history
            await admin.publish(topic, "the last", wait="sequenced")

        order = {topic: [m["message_id"] for m in await admin.history(topic)] for topic in (SQUARE, COURT)}
        for topic, acked in paced.acked.items():
            ledger.acknowledged_once(topic, acked, [{"message_id": message_id} for message_id in order[topic]])
        fences = await fences_of(deployment, order)
        assert set(fences) == {x.user for x in listeners.values() if x.user not in STAY[x.topic]}
        for user in fences:
            await listeners[user].ask_again()
        stay = [listener for user, listener in listeners.items() if user not in fences]
        await until("who stays has all", lambda: all(len(x.seen) >= len(order[x.topic]) for x in stay), 20)
        await until("who is out is refused", lambda: all(listeners[user].is_out for user in fences), 10)
        check(listeners.values(), fences, removals.short, order)
    missing = sum(fences[user] - len(listeners[user].seen) for user in removals.short & set(fences))
    figures.say(
        f"{len(listeners)} listeners on 2 gateways, {paced.total} messages in {lasted:.1f} s; {removals.said()}: "
        f"nobody got a message above his fence, {len(stay)} got all, in order, once; those put out while their owner "
        f"or gateway was dead ended {missing} messages before their fences, all others at theirs"
    )
