"""The first topics and users on a real server: at `/api/v1/top`, as `headgate top` and in `/metrics`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.e2e.clients import Publisher
from tests.e2e.harness import Role, Stage, until

WAIT_S = 40.0  # members are looked through every 10 s
MESSAGES = {"busy": 5, "team": 2, "passing": 1}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


async def series(dev: Role) -> list[str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{dev.admin}/metrics")).text
    return [line for line in text.splitlines() if line.startswith(("headgate_top_", "headgate_topics_direct"))]


async def build(admin: Publisher) -> None:
    """Makes three topics; `team` has two further members, who read nothing."""
    await admin.create_all(["busy", "team"])
    await admin.create("passing", settings={"profile": "ephemeral"})
    for user in ("ann", "bob"):
        assert (await admin.call("PUT", f"/api/v1/topics/team/members/{user}", {"role": "member"})).status == 200
    for topic, count in MESSAGES.items():
        for number in range(count):
            assert (await admin.publish(topic, number)).status == 200


async def fail(dev: Role) -> None:
    """Has the first two messages of `busy` fail once each."""
    url = f"{dev.url.replace('http', 'ws', 1)}/ws/subscribe?topic_id=busy&ack=true&from=earliest&user=eve"
    async with connect(url, proxy=None) as socket:
        for seq in (1, 2):
            async for text in socket:
                frame = json.loads(text)
                if frame["type"] == "message" and frame["seq"] == seq:
                    break
            await socket.send(json.dumps({"type": "nack", "topic_id": "busy", "seq": seq, "reason": "no"}))
        await until("the failures are told", lambda: told(dev), WAIT_S)


async def told(dev: Role) -> bool:
    async with Publisher(dev.url) as admin:
        failed: int = (await admin.call("GET", "/api/v1/topics/busy/stats")).body["failed"]
        return failed >= 2


async def test_operators_see_the_first_topics_and_users(stage: Stage) -> None:
    dev = stage.dev()
    dev.start()
    await dev.ready()
    async with Publisher(dev.url) as admin:
        await build(admin)
        await fail(dev)

        async def top() -> dict[str, Any]:
            answer = await admin.call("GET", "/api/v1/top")
            assert answer.status == 200
            lists: dict[str, Any] = answer.body
            return lists

        async def is_whole() -> bool:
            found = await top()
            return all(found.values()) and len(found["inbox_backlog"]) >= 2 and len(await series(dev)) >= 7

        await until("every list has entries", is_whole, WAIT_S)
        found = await top()
        assert found["complete"] is True
        assert found["topic_members"] == [{"topic_id": "team", "count": 3}]
        hour = [(entry["topic_id"], entry["count"]) for entry in found["topic_messages_per_hour"]]
        assert hour == list(MESSAGES.items()), "largest first, and exact"
        failed = found["topic_failures"][0]
        assert failed["topic_id"] == "busy" and failed["count"] >= 2 and failed["error"] == 0
        assert {(user["user_id"], user["count"]) for user in found["inbox_backlog"]} >= {("ann", 2), ("bob", 2)}
        shown = await series(dev)
        assert 'headgate_top_topic_members{rank="1",topic_id="team"} 3.0' in shown
        assert 'headgate_top_topic_messages_per_hour{rank="1",topic_id="busy"} 5.0' in shown
        assert "headgate_topics_direct 3.0" in shown
        assert any(line.startswith('headgate_top_topic_failures{rank="1",topic_id="busy"}') for line in shown)
        assert any(line.startswith("headgate_top_inbox_backlog") and 'user_id="ann"' in line for line in shown)
        status, out, err = await stage.command("top", "--url", dev.url)
        assert (status, err) == (0, b"")
        lines = [json.loads(line) for line in out.splitlines()]
        assert {"list": "topic_members", "rank": 1, "topic_id": "team", "count": 3} in lines

        assert (await admin.call("DELETE", "/api/v1/topics/busy")).status == 204

        async def is_gone() -> bool:
            return "busy" not in json.dumps(await top()) and not any("busy" in line for line in await series(dev))

        await until("a deleted topic has left the lists and the scrape", is_gone, WAIT_S)


async def test_with_0_no_id_is_shown(stage: Stage) -> None:
    dev = stage.dev(metrics__top=0)
    dev.start()
    await dev.ready()
    async with Publisher(dev.url) as admin:
        await build(admin)

        async def has_members() -> bool:
            async with httpx.AsyncClient(trust_env=False) as http:
                return "headgate_members_max 3.0" in (await http.get(f"{dev.admin}/metrics")).text

        await until("the members were looked through", has_members, WAIT_S)
        assert (await admin.call("GET", "/api/v1/top")).body == {
            "topic_members": [],
            "topic_messages_per_hour": [],
            "topic_failures": [],
            "inbox_backlog": [],
            "complete": True,
        }
        assert not [line for line in await series(dev) if "{" in line]
