"""One message fails twice, is given up, replayed and acknowledged: what an operator sees of it, to the last number."""

import asyncio
import json
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e.clients import Publisher
from tests.e2e.harness import SECRET, Deployment, Role, Stage, token, until
from tests.e2e.test_event_stream import Operator

SHARDS = 4
TOPIC = "jobs"
# Another topic of the same shard: when events of it come from the gateway, those of TOPIC will come too.
OTHER = next(
    f"warm-{n}" for n in count() if shard_of(topic_key(f"warm-{n}"), SHARDS) == shard_of(topic_key(TOPIC), SHARDS)
)
RETRY = {"kind": "fixed", "first_ms": 300, "max_ms": 300, "jitter": 0, "max_attempts": 2}
WAIT_S = 30.0


class Client:
    """A WebSocket that follows some topics."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def next(self, kind: str) -> dict[str, Any]:
        """Returns the next frame of a type, and passes over others."""
        async with asyncio.timeout(WAIT_S):
            while True:
                frame: dict[str, Any] = json.loads(await self._socket.recv())
                if frame["type"] == kind:
                    return frame

    async def say(self, kind: str, seq: int, **more: Any) -> None:
        """Sends an `ack` or `nack`, and waits for the answer."""
        await self._socket.send(json.dumps({"type": kind, "topic_id": TOPIC, "seq": seq, "id": 1, **more}))
        await self.next("ok")


async def _follow(stack: AsyncExitStack, gateway: Role, user: str, query: str) -> Client:
    url = f"ws://127.0.0.1:{gateway.port}/ws/subscribe?{query}&token={token(user)}"
    client = Client(await stack.enter_async_context(connect(url, proxy=None)))
    await client.next("subscribed")
    return client


async def _warm(admin: Publisher, operator: Operator) -> None:
    """Publishes to the other topic until the gateway tells of it."""

    async def told() -> bool:
        assert (await admin.publish(OTHER, 0)).status == 200
        await asyncio.sleep(0.3)
        return any(event["topic"] == OTHER and event["subscribers"] for event in operator.of("delivered"))

    await until("events come from the gateway", told, WAIT_S)


async def _give_up_and_replay(admin: Publisher, bob: Client) -> None:
    """Bob refuses the message twice; somebody replays the dead letter; bob acknowledges."""
    for attempt in (1, 2):
        message = await bob.next("message")
        assert (message["seq"], message.get("attempt", 1)) == (1, attempt)
        await bob.say("nack", 1, reason="not now")
    letters: list[dict[str, Any]] = []

    async def listed() -> bool:
        answer = await admin.call("GET", "/api/v1/dead-letters", topic_id=TOPIC)
        letters[:] = answer.body["dead_letters"]
        return bool(letters)

    await until("the dead letter is there", listed, WAIT_S)
    (letter,) = letters
    assert (letter["attempts"], letter["user_id"], letter["device_id"], letter["seq"]) == (2, "bob", "desk", 1)
    assert (await admin.call("POST", f"/api/v1/dead-letters/{letter['id']}/replay")).status == 202
    message = await bob.next("message")
    assert (message["seq"], message["attempt"]) == (1, 1)
    await bob.say("ack", 1)


def _in_order(operator: Operator) -> list[tuple[str, str | None, int, str | None]]:
    """The topic's events by time; of one instant, what another process says of a failure comes after it."""
    events = [event for event in operator.events if event.get("topic") == TOPIC]
    events.sort(key=lambda event: (event["at"], event["event"] == "dead_letter"))
    return [(event["event"], event["subscriber"], event["attempts"], event["status"]) for event in events]


EVENTS = [
    ("message_enqueued", None, 0, "QUEUED"),
    ("delivering", "bob", 1, "DELIVERING"),
    ("delivered", None, 1, "DELIVERED"),  # to ann, who does not acknowledge
    ("failed", "bob", 1, "FAILED"),
    ("retry_scheduled", "bob", 1, "RETRY_SCHEDULED"),
    ("delivering", "bob", 2, "DELIVERING"),
    ("failed", "bob", 2, "FAILED"),
    ("dead_letter", "bob", 2, "DEAD_LETTER"),
    ("delivering", "bob", 1, "DELIVERING"),
    ("delivered", "bob", 1, "DELIVERED"),
]
STATS = {
    **{"published": 1, "delivered": 2, "failed": 2, "retried": 2, "dead_lettered": 1, "rejected": 0},
    **{"queue_length": 0, "subscriber_count": 2},
}


async def _life_of_a_message(ingest: Role, gateway: Role) -> None:
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Publisher(ingest.url, token("root", admin=True, service=True)))
        for topic in (TOPIC, OTHER):
            assert (await admin.create(topic, settings={"retry": RETRY})).status == 201
        bob = await _follow(stack, gateway, "bob", f"topic_id={TOPIC}&ack=true&device_id=desk&from=cursor")
        ann = await _follow(stack, gateway, "ann", f"topic_id={TOPIC}&topic_id={OTHER}")
        await ann.next("subscribed")
        operator = await stack.enter_async_context(Operator().watching(ingest))
        await _warm(admin, operator)
        assert (await admin.publish(TOPIC, {"n": 1})).status == 200
        await _give_up_and_replay(admin, bob)
        await until("all is told", lambda: len(_in_order(operator)) >= len(EVENTS), WAIT_S)
        await asyncio.sleep(1.0)
        assert _in_order(operator) == EVENTS
        of_topic = [event for event in operator.events if event.get("topic") == TOPIC]
        assert len({event["id"] for event in of_topic}) == 1
        assert {event["seq"] for event in of_topic} == {1}
        assert {event["device_id"] for event in of_topic if event["subscriber"]} == {"desk"}
        stats: dict[str, Any] = {}

        async def counted() -> bool:
            answer = await admin.call("GET", f"/api/v1/topics/{TOPIC}/stats")
            stats.update({name: answer.body[name] for name in STATS})
            return stats == STATS

        await until(f"the statistics are whole: {stats}", counted, WAIT_S)
        await asyncio.sleep(1.5)
        assert await counted(), stats


async def test_on_the_embedded_log(stage: Stage) -> None:
    dev = stage.dev(data=True, auth__mode="jwt", auth__secret=SECRET, log__shards=SHARDS).start()
    await dev.ready()
    await _life_of_a_message(dev, dev)


async def test_on_kafka(stage: Stage, kafka_bootstrap: str, log_prefix: str) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix)
    await deployment.start(SHARDS)
    await _life_of_a_message(deployment.ingests[0], deployment.gateways[0])
