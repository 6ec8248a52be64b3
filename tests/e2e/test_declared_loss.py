"""Retention takes records of one shard that no dispatcher had applied: the shard parks, and the others are served. The
loss is declared, through kill -9 of the command, and clients go on in new epochs; other shards notice nothing."""

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack
from itertools import count

from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.records import LogName
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, environment, token, until
from tests.e2e.http import Http

SHARDS = 2
HIT = next(f"hit{n}" for n in count() if shard_of(topic_key(f"hit{n}"), SHARDS) == 1)
SPARED = next(f"spared{n}" for n in count() if shard_of(topic_key(f"spared{n}"), SHARDS) == 0)
MESSAGES = 5
RECOVER = ("recover", "--shard", "1")
KILLED_AFTER_S = (0.5, 0.8, 1.1, 1.4, 1.7)


async def test_a_shard_whose_records_are_gone_is_served_again_in_new_epochs(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    cluster = Deployment(stage, kafka_bootstrap, log_prefix, gateways=2)
    await cluster.start(shards=SHARDS)
    urls, others = ([gateway.url] for gateway in cluster.gateways)
    async with (
        Publisher(cluster.ingests[0].url, token("ann", service=True)) as ann,
        Publisher(cluster.ingests[0].url, token("bob")) as bob,
        AsyncExitStack() as stack,
    ):
        await ann.create_all([HIT, SPARED])
        live = await stack.enter_async_context(Subscriber("ann", urls, [HIT, SPARED], token=token("ann")))
        stayed = await stack.enter_async_context(Subscriber("bob", others, [HIT, SPARED], token=token("bob")))
        await until("subscribed", lambda: live.connected and stayed.connected, 20)
        await _fill(ann, bob)
        await until("all messages", lambda: live.count == stayed.count == 2 * MESSAGES, 20)
        before = await _inbox(bob)
        await _lose(cluster, ann)
        await _declare(cluster, stage, figures)
        await until("served again", lambda: live.connected, 30)
        await _whole_time(stayed)
        assert await _published(ann, HIT) > MESSAGES
        await _published(ann, SPARED)
        await until("clients go on", lambda: live.count == stayed.count == 2 * MESSAGES + 3, 30)
        for client in (live, stayed):
            epochs = [seen.epoch for seen in client.messages[HIT]]
            assert epochs[:MESSAGES] == [before[HIT]["epoch"]] * MESSAGES and epochs[-1] > epochs[0]
            assert [json.loads(seen.payload) for seen in client.messages[HIT]] == [*range(MESSAGES), "after"]
            spared = [json.loads(seen.payload) for seen in client.messages[SPARED]]
            assert spared == [*range(MESSAGES), "while none ran", "after"]
            assert {seen.epoch for seen in client.messages[SPARED]} == {before[SPARED]["epoch"]}
            told = [frame for frame in client.of_type("subscribed") if frame["topic_id"] == HIT][-1]
            assert (told["resumed"], told["reason"]) == (False, "epoch_changed")
        assert [message["payload"] for message in await ann.history(HIT)] == ["after"]
        assert len(await ann.history(SPARED)) == MESSAGES + 2
        await _later_client(urls, before[HIT]["epoch"])
        after = await _inbox(bob)
        assert after[HIT]["epoch"] > before[HIT]["epoch"]
        assert after[HIT]["read_seq"] == before[HIT]["read_seq"] == 2
        assert after[SPARED]["epoch"] == before[SPARED]["epoch"]
        members = (await ann.call("GET", f"/api/v1/topics/{HIT}/members")).body["members"]
        assert {member["user_id"] for member in members} == {"ann", "bob"}


async def _fill(ann: Publisher, bob: Publisher) -> None:
    for topic in (HIT, SPARED):
        assert (await ann.call("PUT", f"/api/v1/topics/{topic}/members/bob", {"role": "member"})).status == 200
        for number in range(MESSAGES):
            await ann.publish(topic, number, wait="sequenced")
    wish = {"topic_id": HIT, "seq": 2, "kind": "read", "device_id": "phone"}
    assert (await bob.call("POST", "/api/v1/inbox/ack", wish)).status == 204


async def _inbox(bob: Publisher) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}

    async def both() -> bool:
        answer = await bob.call("GET", "/api/v1/inbox", device_id="phone", limit=100)
        found.update({topic["topic_id"]: topic for topic in answer.body["topics"]} if answer.status == 200 else {})
        return len(found) == 2 and all(topic["head_seq"] for topic in found.values())

    await until("bob's inbox", both, 30)
    return found


async def _lose(cluster: Deployment, ann: Publisher) -> None:
    """No dispatcher runs while three messages come; they are gone when the next one starts, two later ones are not."""
    dispatcher = cluster.dispatchers[0]
    dispatcher.sigterm()
    await dispatcher.ended(30)
    log = KafkaLog(LogOptions(f"kafka://{cluster.bootstrap}", cluster.prefix))
    await log.open()
    for number in range(3):
        assert (await ann.publish(HIT, f"lost {number}")).status < 300
    left_from = (await log.bounds(LogName.MESSAGES, 1)).end
    for number in range(2):
        assert (await ann.publish(HIT, f"left {number}")).status < 300
    assert (await ann.publish(SPARED, "while none ran")).status < 300
    await log.truncate_before(LogName.MESSAGES, 1, left_from)
    await log.close()
    dispatcher.start()

    async def parked() -> bool:
        async with Http(dispatcher.admin, timeout_s=2.0) as http:
            return b"was removed before anybody applied it" in (await http.request("GET", "/readyz")).body

    await asyncio.sleep(1.0)
    await until("the shard is parked", lambda: _safely(parked), 30)
    await until("all but its owner say that they serve", lambda: _safely(lambda: _others_serve(cluster)), 30)


async def _others_serve(cluster: Deployment) -> bool:
    """One shard of several takes nobody out of his Service: the chart's probes leave its check out."""
    seen = []
    for role, path in ((cluster.gateways[0], "some_owners"), (cluster.ingests[0], "some_owners&exclude=some_circuits")):
        async with Http(role.admin, timeout_s=2.0) as http:
            whole, served = [await http.request("GET", each) for each in ("/readyz", f"/readyz?exclude={path}")]
        without = (await role.metrics())["headgate_shards_without_owner{}"]
        seen.append((whole.status, b"no link to the owner of 1 of" in whole.body, served.status, without))
    return seen == [(503, True, 200, 1)] * 2


async def _safely(asks: object) -> bool:
    try:
        return bool(await asks())  # type: ignore[operator]
    except Exception:
        return False


async def _declare(cluster: Deployment, stage: Stage, figures: Figures) -> None:
    dispatcher, settings = cluster.dispatchers[0], cluster.common
    status, out, err = await stage.command(*RECOVER, "--accept-loss", settings=settings)
    assert (status, out, b"stop all of them" in err) == (1, b"", True), err
    dispatcher.sigterm()
    await dispatcher.ended(30)
    status, out, err = await stage.command(*RECOVER, settings=settings)
    told = json.loads(out)
    assert status == 3 and b"nothing was changed" in err, err
    assert (told["lost_to"] - told["lost_from"], told["messages"], told["new_epochs"]) == (3, 2, 1)
    cluster.gateways[0].sigterm()
    await cluster.gateways[0].ended(30)
    ended = [await asyncio.to_thread(_kill9_after, seconds, stage, cluster) for seconds in KILLED_AFTER_S]
    status, out, err = await stage.command(*RECOVER, "--accept-loss", settings=settings)
    assert status == 0, err
    # A command that was killed after its last write has left nothing to accept; what it wrote is checked below.
    assert json.loads(out)["accepted"] if out else b"without a loss" in err, err
    status, out, err = await stage.command(*RECOVER, "--accept-loss", settings=settings)
    assert (status, out, b"without a loss" in err) == (0, b"", True), err
    figures.say(f"kill -9 of the command after {KILLED_AFTER_S} s: exit {ended}")
    dispatcher.start()
    await dispatcher.ready()
    cluster.gateways[0].start()
    await cluster.gateways[0].ready()


async def _published(ann: Publisher, topic: str) -> int:
    """Publishes once, and asks again while ingest has not found the new owner; returns the seq.

    404: the ingest ran on, and knew the topic by its old epoch where the owner did not answer at once. The runbook
    stops the ingests, or waits a minute.
    """
    seqs: list[int] = []

    async def numbered() -> bool:
        answer = await ann.publish(topic, "after", f"after-{topic}", wait="sequenced")
        assert answer.status in (200, 404, 503, 504), answer
        if answer.status == 200:
            seqs.append(answer.body["seq"])
        return bool(seqs)

    await until("the new owner numbers", numbered, 30)
    return seqs[0]


async def _whole_time(stayed: Subscriber) -> None:
    """A session that stays connected is told that its topic ended, and may subscribe again."""
    await until("unsubscribed", lambda: stayed.of_type("unsubscribed"), 30)
    assert [(frame["topic_id"], frame["reason"]) for frame in stayed.of_type("unsubscribed")] == [(HIT, "deleted")]
    asked = len(stayed.of_type("subscribed"))
    await stayed.ask(HIT)
    await until("subscribed again", lambda: len(stayed.of_type("subscribed")) > asked, 20)


def _kill9_after(seconds: float, stage: Stage, cluster: Deployment) -> int:
    command = [sys.executable, "-m", "headgate.cli.main", *RECOVER, "--accept-loss"]
    with subprocess.Popen(
        command, env=environment(cluster.common), cwd=stage.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


async def _later_client(urls: list[str], epoch: object) -> None:
    """A client that comes with its old position hears of the new epoch."""
    async with Subscriber("late", urls, [HIT], token=token("ann"), start={"epoch": epoch, "seq": 3}) as late:
        await until("subscribed", lambda: late.connected, 20)
        granted = late.of_type("subscribed")[0]
        assert (granted["resumed"], granted["reason"]) == (False, "epoch_changed")
        await until("what was kept", lambda: late.count >= 1, 20)
        assert late.messages[HIT][0].payload == b'"after"'
