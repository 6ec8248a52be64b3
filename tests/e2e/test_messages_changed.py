"""1,000 random edits, redactions and reactions of three users through two ingests (Kafka), with retries, while the
dispatcher that owns the topic is killed twice: history, a replay and a client that was there throughout agree, and
what was redacted stands nowhere but in Kafka's messages."""

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from headgate.core.wire.ids import shard_of, topic_key
from tests import conversation
from tests.e2e import ledger
from tests.e2e.clients import Answer, Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Role, Stage, at_most, token, until
from tests.e2e.http import NoAnswer
from tests.e2e.kafka_client import read_all

SHARDS: Final = 4
TOPIC: Final = "talk"
MESSAGES: Final = f"/api/v1/topics/{TOPIC}/messages"
USERS: Final = ("ann", "bob", "cy")  # ann created the topic
EACH: Final = 20  # messages of a user at the beginning
CHANGES: Final = 1_000
NAMES: Final = ("+1", "heart", "a/\u00e9", "\U0001f44d")
EVERY_S: Final = 0.02
RETRIED: Final = frozenset({503, 504})
KINDS: Final = ("edit", "stale", "redact", "react", "unreact")
WEIGHTS: Final = (44, 4, 2, 30, 20)


class Target(NamedTuple):
    """A message of the beginning."""

    seq: int
    message_id: str
    publisher: str


@dataclass
class Talk:
    """What was done, and what was answered."""

    messages: list[Target] = field(default_factory=list)
    payloads: dict[int, list[str]] = field(default_factory=dict)  # of each message, every one that was offered
    acked: dict[int, dict[str, Any]] = field(default_factory=dict)  # edits answered 200, by event_seq
    answers: Counter[str] = field(default_factory=Counter)
    done: int = 0


class Writer:
    """A user who changes messages, one change at a time, each until it has an answer that counts."""

    def __init__(self, user: str, publishers: list[Publisher], talk: Talk, rng: random.Random) -> None:
        self.user = user
        self._publishers = publishers
        self._talk = talk
        self._rng = rng

    async def run(self, changes: int) -> None:
        for number in range(changes):
            await self._change(f"{self.user}-{number}")
            self._talk.done += 1
            await asyncio.sleep(EVERY_S)

    async def _change(self, key: str) -> None:
        rng, talk = self._rng, self._talk
        (kind,) = rng.choices(KINDS, WEIGHTS)
        own = [one for one in talk.messages if one.publisher == self.user]
        others_too = kind in ("react", "unreact") or (kind == "redact" and self.user == USERS[0])
        target = rng.choice(talk.messages if others_too else own)
        path = f"{MESSAGES}/{target.message_id}"
        if kind in ("react", "unreact"):
            name = rng.choice(NAMES).encode()
            path += "/reactions/" + "".join(f"%{byte:02X}" for byte in name)
            answer = await self._until_answered("PUT" if kind == "react" else "DELETE", path, key)
        elif kind == "redact":
            answer = await self._until_answered("DELETE", path, key)
        else:
            answer = await self._edit(target, path, key, stale=kind == "stale")
        talk.answers[f"{kind} {answer.status}"] += 1

    async def _edit(self, target: Target, path: str, key: str, *, stale: bool) -> Answer:
        shown = await self._until_answered("GET", path, "")
        assert shown.status == 200, shown
        version = shown.body.get("version", 1)
        payload = f"payload-{target.seq}-{key}-{self._rng.getrandbits(64):x}"
        self._talk.payloads[target.seq].append(payload)
        asked = max(1, version - 1) if stale else version
        answer = await self._until_answered("PATCH", path, key, {"payload": payload, "version": asked})
        assert answer.status in (200, 409), answer
        if answer.status == 200:
            about = {"target_seq": target.seq, "version": asked + 1, "payload": payload}
            assert answer.body["event_seq"] not in self._talk.acked, "one event is one edit"
            self._talk.acked[answer.body["event_seq"]] = about
        return answer

    async def _until_answered(self, method: str, path: str, key: str, body: object = None) -> Answer:
        """Repeats the request, with its Idempotency-Key, until its outcome is known."""
        async with asyncio.timeout(60):
            while True:
                publisher = self._rng.choice(self._publishers)
                try:
                    answer = await publisher.call_once(method, path, key or "read", body)
                except (NoAnswer, TimeoutError) as error:
                    self._talk.answers[type(error).__name__] += 1
                    continue
                if answer.status not in RETRIED:
                    assert answer.status in (200, 204, 409, 422), (method, path, answer)
                    return answer
                self._talk.answers[str(answer.status)] += 1
                await asyncio.sleep(0.1)


async def test_all_views_of_changed_messages_agree_and_what_was_redacted_is_gone(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, ingests=2, dispatchers=2, gateways=2)
    await deployment.start(SHARDS)
    talk, seed = Talk(), random.randrange(1 << 32)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        publishers = {
            user: [await stack.enter_async_context(_publisher(i, user)) for i in deployment.ingests] for user in USERS
        }
        ann = publishers["ann"][0]
        assert (await ann.create(TOPIC)).status == 201
        gateways = [gateway.url for gateway in deployment.gateways]
        live = Subscriber("live", gateways[:1], [TOPIC], token=token("live"), keep_whole=True)
        await stack.enter_async_context(live)
        await until("the live client is there", lambda: live.connected, 30)
        await _begin(talk, publishers)
        writers = [Writer(user, publishers[user], talk, random.Random(f"{seed}-{user}")) for user in USERS]
        async with asyncio.TaskGroup() as tasks:
            for number, writer in enumerate(writers):
                tasks.create_task(writer.run(CHANGES // 3 + (number < CHANGES % 3)))
            for at in (CHANGES // 4, CHANGES // 2):
                await until(f"{at} changes", lambda at=at: talk.done >= at, 120)
                await _kill_owner(deployment)
        took = time.monotonic() - began
        history = await ann.history(TOPIC)
        await at_most(30, lambda: live.count >= len(history))
        replay = Subscriber("replay", gateways[1:], [TOPIC], token=token("late"), start="earliest", keep_whole=True)
        await stack.enter_async_context(replay)
        await at_most(30, lambda: replay.count >= len(history))
        _check(talk, history, live.whole[TOPIC], replay.whole[TOPIC])
        assert live.connections == 1, "live subscriptions see nothing of a change of owner"
        assert not live.of_type("gap"), live.of_type("gap")
        redacted = {frame["seq"] for frame in history if "kind" not in frame and frame.get("redacted")}
        secrets = [payload for seq in redacted for payload in talk.payloads[seq]]
        answers = await _answers(ann, talk, redacted)
        answers["history"] = repr(history).encode()
        answers["replay"] = repr(replay.whole).encode()
        conversation.nowhere("answers", secrets, answers)
        keeps = [payload for seq, payloads in talk.payloads.items() if seq not in redacted for payload in payloads]
        await _nowhere_else(deployment, secrets, keeps)
    figures.say(
        f"{CHANGES} changes of {len(talk.messages)} messages by three users through two ingests in {took:.1f} s, the "
        f"owner killed twice (seed {seed}): {dict(sorted(talk.answers.items()))}; {len(history)} messages and events "
        f"agree in history, a replay and a live client; {len(secrets)} payloads of {len(redacted)} redacted messages "
        f"stand nowhere"
    )


def _publisher(ingest: Role, user: str) -> Publisher:
    return Publisher(ingest.url, token(user, service=True))


async def _begin(talk: Talk, publishers: dict[str, list[Publisher]]) -> None:
    for number in range(EACH * len(USERS)):
        user = USERS[number % len(USERS)]
        payload = f"payload-{number + 1}-first-{random.getrandbits(64):x}"
        answer = await publishers[user][0].publish(TOPIC, payload, f"first-{number}", wait="sequenced")
        assert answer.status == 200, answer
        target = Target(answer.body["seq"], answer.body["message_id"], user)
        talk.messages.append(target)
        talk.payloads[target.seq] = [payload]


async def _kill_owner(deployment: Deployment) -> None:
    """Kills the dispatcher that owns the topic, and starts it again when another life of it has begun."""
    before, victim = _owner(deployment)
    victim.kill9()
    await until("the topic has another owner", lambda: _owner(deployment)[0] > before, 60)
    victim.start()
    await victim.ready()


def _owner(deployment: Deployment) -> tuple[str, Role]:
    """Returns who served the topic's shard last, and since when, by the processes' own log lines."""
    shard = shard_of(topic_key(TOPIC), SHARDS)
    lives = [
        (line["timestamp"], number)
        for number, role in enumerate(deployment.dispatchers)
        for line in map(json.loads, filter(lambda text: text.startswith("{"), role.errors().splitlines()))
        if line["event"] == "shard live" and line["shard"] == shard
    ]
    since, number = max(lives)
    return since, deployment.dispatchers[number]


def _check(talk: Talk, history: list[dict[str, Any]], live: list[dict[str, Any]], replay: list[dict[str, Any]]) -> None:
    for who, frames in {"history": history, "live": live, "replay": replay}.items():
        ledger.dense(f"{TOPIC} at {who}", [frame["seq"] for frame in frames])
    shown = {frame["seq"]: conversation.as_now(frame) for frame in replay if "kind" not in frame}
    views = {"live": conversation.folded(TOPIC, live), "replay": shown}
    conversation.messages_agree(TOPIC, history, views)
    for who, frames in {"live": live, "replay": replay}.items():
        conversation.events_agree(TOPIC, who, history, frames)
    conversation.applied_once(TOPIC, talk.acked, history)
    edits = [frame for frame in history if frame.get("kind") == "edit"]
    assert len(edits) == len(talk.acked), "E4: an edit that nobody made, or one made twice"


async def _answers(ann: Publisher, talk: Talk, redacted: set[int]) -> dict[str, bytes]:
    """Returns what is answered about the redacted messages, by what was asked."""
    answers = {}
    for target in talk.messages:
        if target.seq in redacted:
            path = f"{MESSAGES}/{target.message_id}"
            answer = await ann.call("GET", path, versions="true")
            assert answer.status == 200 and answer.body["redacted"] is True, answer
            assert {version["payload"] for version in answer.body["versions"]} == {None}, answer
            answers[path] = repr(answer.body).encode()
    page = await ann.call("GET", "/messages", channel_id=TOPIC, page_size=1_000)
    assert {m["seq_no"] for m in page.body["messages"] if m["tombstone"]} == redacted
    return answers | {"/messages": repr(page.body).encode()}


async def _nowhere_else(deployment: Deployment, secrets: list[str], keeps: list[str]) -> None:
    """Searches every file and log line of the processes, and every log but `messages`. `keeps` are not redacted.

    The dispatcher that does not own the shard deletes its file of it ten minutes later (`dispatcher/folder.py`).
    """
    _, owner = _owner(deployment)
    others = [deployment.index(role) for role in deployment.dispatchers if role is not owner]
    own = deployment.index(owner) / f"shard-{shard_of(topic_key(TOPIC), SHARDS)}.db"
    assert own.exists()

    def files() -> dict[str, bytes]:
        found = [path for path in deployment.stage.folder.rglob("*") if path.is_file()]
        found = [path for path in found if not (path.name.startswith(own.name) and path.parent in others)]
        return {path.relative_to(deployment.stage.folder).as_posix(): path.read_bytes() for path in found}

    def is_gone() -> bool:
        try:
            conversation.nowhere("files", secrets, files())
        except AssertionError:
            return False
        return True

    await at_most(30, is_gone)
    searched = files()
    conversation.nowhere("files", secrets, searched)
    assert any(kept.encode() in searched[str(own.relative_to(deployment.stage.folder))] for kept in keeps)
    for log in ("snapshots", "dead-letters", "inbox", "ownership"):
        records = await read_all(deployment.bootstrap, f"{deployment.prefix}.{log}")
        texts = {f"{log} {r.partition}:{r.offset}": (r.key or b"") + (r.value or b"") for r in records}
        conversation.nowhere(f"log {log}", secrets, texts)
