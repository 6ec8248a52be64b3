"""The first topics and users of two dispatchers on a real Kafka are one list, also after one of them was killed."""

import json
from typing import Any

from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Stage, shards_of, token, until

SHARDS = 4
WAIT_S = 60.0  # members are looked through every 10 s, and the other dispatcher has to take the shards over
MEMBERS = {f"room{number}": number + 2 for number in range(6)}  # with the owner; each another count
MESSAGES = 3
READERS = 7
LARGEST = [{"topic_id": topic, "count": count} for topic, count in sorted(MEMBERS.items(), key=lambda each: -each[1])]


async def _build(admin: Publisher) -> None:
    await admin.create_all(list(MEMBERS))
    for topic, count in MEMBERS.items():
        for number in range(count - 1):
            path = f"/api/v1/topics/{topic}/members/reader{number}"
            assert (await admin.call("PUT", path, {"role": "member"})).status == 200
        for number in range(MESSAGES):
            assert (await admin.publish(topic, number)).status == 200


async def _top(admin: Publisher) -> dict[str, Any]:
    answer = await admin.call("GET", "/api/v1/top")
    return answer.body if answer.status == 200 else {}


def _unread(found: dict[str, Any]) -> dict[str, int]:
    return {user["user_id"]: user["count"] for user in found["inbox_backlog"] if user["user_id"] != "boss"}


def _is_whole(found: dict[str, Any]) -> bool:
    """Whether topics of all shards are in the one list, largest first, and every reader has all unread messages."""
    rooms = [sum(count > number + 1 for count in MEMBERS.values()) for number in range(READERS - 1)]
    unread = {f"reader{number}": MESSAGES * count for number, count in enumerate(rooms)}
    return bool(found) and found["complete"] and found["topic_members"] == LARGEST and _unread(found) == unread


async def test_the_lists_of_two_dispatchers_are_merged_and_one_that_is_killed_is_missed_for_a_while_only(
    stage: Stage, kafka_bootstrap: str, log_prefix: str
) -> None:
    cluster = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2)
    await cluster.start(shards=SHARDS)
    ingest = cluster.ingests[0]
    async with Publisher(ingest.url, token("boss", service=True, admin=True)) as admin:
        await _build(admin)

        async def is_whole() -> bool:
            return _is_whole(await _top(admin))

        await until("both dispatchers are in the lists", is_whole, WAIT_S)
        owned = [shards_of(dispatcher) for dispatcher in cluster.dispatchers]
        used = {shard_of(topic_key(topic), SHARDS) for topic in MEMBERS}
        assert all(used & shards for shards in owned), f"each has topics of its own: {owned}, {used}"
        hour = (await _top(admin))["topic_messages_per_hour"]
        assert {entry["topic_id"]: entry["count"] for entry in hour} == dict.fromkeys(MEMBERS, MESSAGES)
        await _command_shows(stage, ingest.url)

        cluster.dispatchers[0].kill9()

        async def is_missed() -> bool:
            found = await _top(admin)
            return not found or not found["complete"]

        await until("the lists say that a part is missing", is_missed, WAIT_S, poll_s=0.05)
        await until("the other dispatcher has all of it", is_whole, WAIT_S)
        assert shards_of(cluster.dispatchers[1]) == set(range(SHARDS))
        await _command_shows(stage, ingest.url)


async def _command_shows(stage: Stage, url: str) -> None:
    bearer = token("boss", service=True, admin=True)
    status, out, err = await stage.command("top", "--url", url, "--token", bearer)
    assert (status, err) == (0, b"")
    lines = [json.loads(line) for line in out.splitlines()]
    shown = [line["topic_id"] for line in lines if line["list"] == "topic_members"]
    assert shown == [entry["topic_id"] for entry in LARGEST]
