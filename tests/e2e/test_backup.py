"""A backup of a running deployment on real Kafka, restored into other logs with another shard count: a second one
serves the topics with their members, counters, cursors and marks, and clients are told `epoch_changed`."""

import asyncio
import json
from typing import Any

from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, token, until

ADMIN = token("root", admin=True, service=True)
EVE = token("eve")  # issued before it is revoked
TOPICS = [f"room.{number}" for number in range(20)]
MESSAGES = 10  # in each, one of them edited and one redacted: 12 seqs
HEAD = MESSAGES + 2


async def test_a_backup_of_a_running_cluster_is_served_by_another_one(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    first = Deployment(stage, kafka_bootstrap, f"{log_prefix}-a")
    second = Deployment(stage, kafka_bootstrap, f"{log_prefix}-b")
    await first.start(shards=4)
    async with (
        Publisher(first.ingests[0].url, ADMIN) as root,
        Publisher(first.ingests[0].url, token("ann", service=True)) as ann,
        Publisher(first.ingests[0].url, token("bob")) as bob,
    ):
        await _fill(root, ann, bob)
        before = await _shown(ann, bob)
        assert (await root.call("POST", "/api/v1/revocations", {"user_id": "eve"})).status == 204
        assert (await ann.create("busy")).status == 201
        path = stage.folder / "backup.ndjson"
        publishing = asyncio.create_task(_publish_for_ever(ann))
        status, out, err = await stage.command("backup", "--out", str(path), settings=first.common)
        publishing.cancel()
        assert status == 0, err
    made = json.loads(out)
    assert (made["topic"], made["shard"], made["revocation"]) == (21, 4, 1)
    for role in first.roles:
        role.sigterm()

    status, _, err = await stage.command("restore", str(path), settings=first.common)
    assert (status, b"has been used" in err) == (1, True), err
    await stage.command("init", settings=second.common | {"log.shards": 3})
    status, out, err = await stage.command("restore", str(path), settings=second.common)
    assert status == 0, err
    report = json.loads(out)
    assert (report["generation"], report["shards"], report["topics"], report["dropped"]) == (2, 3, 21, 0)
    await second.start(shards=3)  # `init` finds nothing to do

    async with (
        Publisher(second.ingests[0].url, token("ann", service=True)) as ann,
        Publisher(second.ingests[0].url, token("bob")) as bob,
    ):
        after = await _shown(ann, bob)
        assert _without_epochs(after) == _without_epochs(before)
        epochs = [[topic["epoch"] for topic in shown["inbox"]] for shown in (before, after)]
        assert all(new > 1 << 45 > old for old, new in zip(*epochs, strict=True)), "of generation 2"
        await _epoch_changed(second, ann, before["topics"][0]["epoch"])
    async with Publisher(second.ingests[0].url, EVE) as eve:
        assert (await eve.call("GET", "/api/v1/inbox")).status == 401, "the revocation came along"
    figures.say(f"{made['bytes']} bytes, {report['topics']} topics, from 4 shards to 3")


async def _fill(root: Publisher, ann: Publisher, bob: Publisher) -> None:
    await ann.create_all(TOPICS)
    for number, topic in enumerate(TOPICS):
        ids = [(await ann.publish(topic, n, wait="sequenced")).body["message_id"] for n in range(MESSAGES)]
        base = f"/api/v1/topics/{topic}"
        edited = await ann.call("PATCH", f"{base}/messages/{ids[1]}", {"payload": "new", "version": 1})
        assert edited.status == 200, edited
        assert (await ann.call("DELETE", f"{base}/messages/{ids[2]}")).status == 204
        role = ("admin", "member")[number % 2]
        assert (await ann.call("PUT", f"{base}/members/bob", {"role": role})).status == 200
        assert (await root.call("PUT", f"{base}/members/cy", {"role": "subscriber"})).status == 200
        for kind, seq in (("delivered", 3 + number % 5), ("read", 2 + number % 5)):
            wish = {"topic_id": topic, "seq": seq, "kind": kind, "device_id": "phone"}
            assert (await bob.call("POST", "/api/v1/inbox/ack", wish)).status == 204
    await ann.call("PATCH", f"/api/v1/topics/{TOPICS[0]}", {"name": "the first", "permissions": "PRIVATE"})


async def _publish_for_ever(ann: Publisher) -> None:
    while True:
        await ann.publish("busy", 1)


async def _shown(ann: Publisher, bob: Publisher) -> dict[str, Any]:
    """What the servers say about the topics, once every inbox has their heads."""
    inbox: list[dict[str, Any]] = []

    async def has_heads() -> bool:
        answer = await bob.call("GET", "/api/v1/inbox", device_id="phone", limit=100)
        inbox[:] = answer.body["topics"] if answer.status == 200 else []
        return len(inbox) == len(TOPICS) and all(topic["head_seq"] == HEAD for topic in inbox)

    await until("the heads are in bob's inbox", has_heads, 30)
    topics = [(await ann.call("GET", f"/api/v1/topics/{topic}")).body for topic in TOPICS]
    members = [(await ann.call("GET", f"/api/v1/topics/{topic}/members")).body["members"] for topic in TOPICS]
    return {"inbox": list(inbox), "topics": topics, "members": members}


def _without_epochs(shown: dict[str, Any]) -> dict[str, Any]:
    def bare(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in item.items() if name != "epoch"} for item in items]

    return {"inbox": bare(shown["inbox"]), "topics": bare(shown["topics"]), "members": shown["members"]}


async def _epoch_changed(second: Deployment, ann: Publisher, epoch: int) -> None:
    """A client that comes with its old position hears of the new epoch, and gets what is published from now on."""
    topic = TOPICS[0]
    urls, start = [second.gateways[0].url], {"epoch": epoch, "seq": 5}
    async with Subscriber("ann", urls, [topic], token=token("ann"), start=start) as subscriber:
        await until("subscribed", lambda: subscriber.connected, 20)
        granted = subscriber.of_type("subscribed")[0]
        assert (granted["resumed"], granted["reason"]) == (False, "epoch_changed")
        assert granted["epoch"] > epoch
        assert (granted["first_seq"], granted["seq"]) == (HEAD + 1, HEAD)
        answer = await ann.publish(topic, "after", wait="sequenced")
        assert answer.body["seq"] == HEAD + 1
        await until("the message came", lambda: subscriber.messages[topic], 20)
        assert [seen.seq for seen in subscriber.messages[topic]] == [HEAD + 1]
    kept = await ann.history(topic)
    assert [message["seq"] for message in kept] == [HEAD + 1]
