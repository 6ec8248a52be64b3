"""GET /api/v1/events: who may, what the owners are told, what comes, and every way in which a stream ends."""

import asyncio
import json
from typing import Any

import pytest

from headgate.core.wire.event_names import EventFilter
from headgate.core.wire.link_events import EventsHappened, HappenedEvent, WatchEvents
from headgate.core.wire.link_users import Revocation, Revocations
from ingest.event_streams import HEARTBEAT_S, MAX_PER_S, MAX_STREAMS
from tests.integration.ingest_twin import World, play, problem

PATH = "/api/v1/events"
FAILED = HappenedEvent("t", "failed", b'{"event":"failed","topic":"t"}')


class Reading:
    """One open stream, without a socket: `events` are its (name, data), `gone` ends it as a client does."""

    def __init__(self, world: World, query: str = "", token: str | None = None, method: str = "GET") -> None:
        self.text = b""
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.reads = asyncio.Event()
        self.reads.set()
        self._gone = asyncio.Event()
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        scope = {
            "type": "http",
            "method": method,
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": query.encode(),
            "headers": headers,
            "asgi": {"spec_version": "2.3"},
        }
        self.task = asyncio.create_task(world.ingest.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        self.text += message["body"]
        await self.reads.wait()

    async def gone(self) -> None:
        self._gone.set()
        await self.task

    @property
    def events(self) -> list[tuple[str, Any]]:
        found = []
        for block in self.text.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "data" in fields:
                found.append((fields.get("event", "message"), json.loads(fields["data"])))
        return found


async def opened(world: World, query: str = "", **rights: Any) -> Reading:
    reading = Reading(world, query, world.token("root", admin=True, **rights))
    await asyncio.sleep(0.01)
    return reading


def told(world: World) -> list[WatchEvents]:
    """What the owners were told, once a shard."""
    return [message for message in world.directory.sent if isinstance(message, WatchEvents) and message.shard == 0]


def test_it_is_for_admins_and_its_filters_are_checked() -> None:
    async def scene(world: World) -> None:
        root = world.token("root", admin=True)
        problem(await world.call("GET", PATH, None), 401, "unauthenticated")
        problem(await world.call("GET", PATH), 403, "forbidden")
        problem(await world.call("GET", PATH, world.token("root", admin=True, only=True)), 403, "forbidden")
        problem(await world.call("GET", f"{PATH}?event=exploded", root), 400, "bad_request")
        problem(await world.call("GET", f"{PATH}?topic_id=~", root), 400, "invalid_topic_id")
        many = "&".join(f"topic_id=t{n}" for n in range(101))
        problem(await world.call("GET", f"{PATH}?{many}", root), 400, "bad_request")
        assert told(world) == []

    play(scene)


def test_a_head_is_answered_and_watches_nothing() -> None:
    async def scene(world: World) -> None:
        answer = await world.call("HEAD", PATH, world.token("root", admin=True))
        assert (answer.status_code, answer.text) == (200, "")
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert told(world) == []

    play(scene)


def test_events_come_while_it_is_open_and_owners_are_told_of_the_union_only_when_it_changes() -> None:
    async def scene(world: World) -> None:
        first = await opened(world, "event=failed&topic_id=t")
        assert (first.status, first.headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
        assert first.text.startswith(b"retry: ")
        shard = world.directory.shard_of("t")
        assert [m for m in world.directory.sent if isinstance(m, WatchEvents)] == [
            WatchEvents(shard, EventFilter(("t",), ("failed",)))
        ]
        second = await opened(world)
        third = await opened(world)
        assert told(world)[-1] == WatchEvents(0, EventFilter())
        count = len(told(world))
        world.ingest.on_push(1, EventsHappened(shard, [FAILED, HappenedEvent("u", "failed", b"{}")], 2))
        await asyncio.sleep(0.01)
        gap = ("gap", {"event": "gap", "reason": "overloaded", "count": 2})
        assert first.events == [("message", json.loads(FAILED.data)), gap]
        assert second.events == [("message", json.loads(FAILED.data)), ("message", {}), gap]
        await third.gone()
        assert len(told(world)) == count, "nothing is different for the owner"
        await second.gone()
        await first.gone()
        assert told(world)[-1] == WatchEvents(0, None)

    play(scene)


def test_a_quiet_stream_has_comments_and_ends_when_its_client_is_gone() -> None:
    async def scene(world: World) -> None:
        reading = await opened(world)
        await asyncio.sleep(2 * HEARTBEAT_S + 1)
        assert reading.text.count(b":\n\n") == 2
        await reading.gone()
        assert told(world)[-1].wanted is None

    play(scene)


def test_a_client_that_reads_slowly_is_told_how_many_it_missed() -> None:
    async def scene(world: World) -> None:
        reading = await opened(world)
        reading.reads.clear()
        for _ in range(4):
            world.ingest.on_push(1, EventsHappened(0, [FAILED] * 500))
            await asyncio.sleep(0.01)
        reading.reads.set()
        await asyncio.sleep(0.01)
        names = [name for name, _ in reading.events]
        assert names.count("message") == 500 + 1_000
        assert reading.events[-1] == ("gap", {"event": "gap", "reason": "slow", "count": 500})
        await reading.gone()

    play(scene)


def test_above_its_own_bound_an_ingest_looks_at_no_more_in_this_second() -> None:
    async def scene(world: World) -> None:
        reading = await opened(world)
        others = HappenedEvent("t", "delivered", b"{}")
        picky = await opened(world, "event=failed")
        await asyncio.sleep(1)
        world.ingest.on_push(1, EventsHappened(0, [others] * (MAX_PER_S - 1) + [FAILED, FAILED]))
        await asyncio.sleep(0.01)
        overloaded = ("gap", {"event": "gap", "reason": "overloaded", "count": 1})
        assert picky.events == [("message", json.loads(FAILED.data)), overloaded]
        await asyncio.sleep(1)
        world.ingest.on_push(1, EventsHappened(0, [FAILED]))
        await asyncio.sleep(0.01)
        assert picky.events[-1] == ("message", json.loads(FAILED.data))
        for one in (reading, picky):
            await one.gone()

    play(scene)


def test_a_change_of_owners_is_a_gap_and_the_next_owner_is_told() -> None:
    async def scene(world: World) -> None:
        reading = await opened(world)
        world.ingest.on_owner(0, up=False)
        world.ingest.on_owner(0, up=True)
        await asyncio.sleep(0.01)
        assert reading.events == [("gap", {"event": "gap", "reason": "owner", "count": None})]
        assert told(world)[-2:] == [WatchEvents(0, EventFilter())] * 2
        await reading.gone()
        world.ingest.on_owner(0, up=True)
        assert told(world)[-1] == WatchEvents(0, None)
        count = len(told(world))
        world.ingest.on_owner(0, up=True)
        assert len(told(world)) == count, "nobody watches: a new owner is told nothing"

    play(scene)


@pytest.mark.parametrize("end", ["expiry", "revocation", "drain"])
def test_it_ends_with_its_token_and_with_the_process(end: str) -> None:
    async def scene(world: World) -> None:
        reading = Reading(world, token=world.token("root", ttl_s=20, admin=True))
        await asyncio.sleep(1.5)
        if end == "revocation":
            world.ingest.on_push(0, Revocations([Revocation("root", "", world.clock.wall_ms())]))
        elif end == "drain":
            await world.ingest.drain(5)
        async with asyncio.timeout(30):
            await reading.task
        ((name, data),) = reading.events
        code, reason, reconnect = {
            "expiry": (4610, "token_expired", True),
            "revocation": (4401, "unauthenticated", False),
            "drain": (4601, "draining", True),
        }[end]
        assert (name, data) == (
            "disconnect",
            {"type": "disconnect", "code": code, "reason": reason, "reconnect": reconnect},
        )
        assert told(world)[-1].wanted is None

    play(scene)


def test_above_the_bound_a_stream_ends_at_once_so_that_a_client_comes_back() -> None:
    async def scene(world: World) -> None:
        readings = [await opened(world) for _ in range(MAX_STREAMS)]
        late = await opened(world)
        await late.task
        assert (late.status, late.events[0][1]["code"]) == (200, 4503)
        assert late.events[0][1]["retry_after_ms"] == 5_000
        await readings[0].gone()
        again = await opened(world)
        assert again.events == []
        for reading in [*readings[1:], again]:
            await reading.gone()

    play(scene)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_token_may_come_in_the_query_where_the_setting_lets_it(allowed: bool) -> None:
    async def scene(world: World) -> None:
        reading = Reading(world, f"token={world.token('root', admin=True)}")
        await asyncio.sleep(0.01)
        assert reading.status == (200 if allowed else 401)
        await reading.gone()
        answer = await world.call("GET", f"/api/v1/topics?token={world.token()}", None)
        assert answer.status_code == 401, "only a stream's"

    play(scene, query_token=allowed)
