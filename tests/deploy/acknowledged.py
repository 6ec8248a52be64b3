"""A receiver that fails, its dead letter, and an operator who watches, all through a proxy; knows no engine."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from headgate_client import Client, Message
from tests.e2e.harness import until

TOPIC: Final = "proxied.jobs"
RETRY: Final[dict[str, Any]] = {"max_attempts": 2, "kind": "fixed", "first_ms": 100, "max_ms": 100, "jitter": 0}
BROKEN: Final = "broken"
WATCHED: Final = ("subscriber_added", "message_enqueued", "delivered")
SILENCE_S: Final = 20.0
"""An ingest sends a comment every 15 s: a proxy that keeps bytes back is found by its silence."""


class Watcher:
    """`GET /api/v1/events` of one topic, as a stock client reads it; notes when bytes came."""

    def __init__(self, url: str, token: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.comments = 0
        self.longest_silence_s = 0.0
        self.began = time.monotonic()
        self._url = url
        self._token = token
        self.opened = asyncio.Event()

    async def run(self) -> None:
        """Reads until cancelled; a stream that ends is an error."""
        timeout = httpx.Timeout(10.0, read=SILENCE_S)
        headers = {"Authorization": f"Bearer {self._token}"}
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=timeout, trust_env=False) as http,
            http.stream("GET", "/api/v1/events", params={"topic_id": TOPIC}, headers=headers) as answer,
        ):
            assert answer.status_code == 200, answer
            assert answer.headers["content-type"].startswith("text/event-stream"), answer.headers
            self.opened.set()
            last = time.monotonic()
            async for line in answer.aiter_lines():
                now = time.monotonic()
                self.longest_silence_s, last = max(self.longest_silence_s, now - last), now
                self._take(line)
        raise AssertionError("the stream of events ended")

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in self.events if event["event"] == name]

    def _take(self, line: str) -> None:
        self.comments += line.startswith(":")
        if line.startswith("data: "):
            self.events.append(json.loads(line.removeprefix("data: ")))


async def fails_and_is_mended(url: str, mint: Callable[[str], str], *, watch_s: float) -> str:
    """Publishes, refuses, gives up, lists, replays and acknowledges while the events are watched for `watch_s`."""
    watcher = Watcher(url, mint("operator"))
    watching = asyncio.create_task(watcher.run())
    working = asyncio.create_task(_work(url, mint("owner"), watcher))
    try:
        await asyncio.wait([watching, working], return_when=asyncio.FIRST_COMPLETED)
        # The rest of the time is silent: only comments come, and the proxy must not end the stream.
        await asyncio.wait([watching], timeout=max(watch_s - (time.monotonic() - watcher.began), 0.0))
        if watching.done():
            watching.result()
        attempts = working.result()
    finally:
        for task in (watching, working):
            task.cancel()
        await asyncio.gather(watching, working, return_exceptions=True)
    missing = [name for name in WATCHED if not watcher.named(name)]
    assert not missing, f"no {missing} in {[event['event'] for event in watcher.events]}"
    return (
        f"attempts {attempts}, a dead letter, replayed and acknowledged; {len(watcher.events)} lifecycle events and "
        f"{watcher.comments} comments in {watch_s:.0f} s, at most {watcher.longest_silence_s:.1f} s without a byte"
    )


async def _work(url: str, token: str, watcher: Watcher) -> list[int]:
    """Returns the attempts of the message that was refused."""
    await watcher.opened.wait()
    async with _phone(url, token) as client:
        body = {"name": TOPIC, "topic_id": TOPIC, "settings": {"retry": RETRY}}
        await client.request("POST", "/api/v1/topics", body=body, key=TOPIC)
        attempts = await _refuse_until_given_up(client)
        letter = await _the_letter(client)
        assert letter["message_id"] and letter["attempts"] == RETRY["max_attempts"], letter
    async with _phone(url, token) as client:
        await _replayed(client, letter["id"])
    return attempts


def _phone(url: str, token: str) -> Client:
    return Client(url, token=token, device_id="phone", trust_env=False)


async def _refuse_until_given_up(client: Client) -> list[int]:
    """Leaves the subscription when the message behind the given-up one is acknowledged."""
    messages = client.subscribe(TOPIC, from_="earliest", ack="manual")
    await asyncio.wait_for(messages.ready(), 30)
    await client.publish(TOPIC, BROKEN)
    attempts: list[int] = []
    async with messages:
        while len(attempts) < RETRY["max_attempts"]:
            message = await _next(messages)
            attempts.append(message.attempt)
            messages.nack(message, "cannot be done")
        await client.publish(TOPIC, "well")
        message = await _next(messages)
        assert message.payload == "well", message
        messages.ack(message)
        await messages.confirm()
    assert attempts == [1, 2]
    return attempts


async def _the_letter(client: Client) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def listed() -> bool:
        page = await client.request("GET", "/api/v1/dead-letters", params={"topic_id": TOPIC})
        found[:] = page["dead_letters"]
        return bool(found)

    await until("the dead letter", listed, 30, poll_s=0.5)
    (letter,) = found
    assert letter["last_error"] == "cannot be done" and letter["device_id"] == "phone", letter
    return letter


async def _replayed(client: Client, letter_id: str) -> None:
    await client.request("POST", f"/api/v1/dead-letters/{letter_id}/replay", key=letter_id)
    async with client.subscribe(TOPIC, from_="cursor", ack="manual") as messages:
        message = await _next(messages)
        assert (message.payload, message.attempt) == (BROKEN, 1), message
        messages.ack(message)
        await messages.confirm()

    async def gone() -> bool:
        return not (await client.request("GET", "/api/v1/dead-letters", params={"topic_id": TOPIC}))["dead_letters"]

    await until("no dead letter", gone, 30, poll_s=0.5)


async def _next(messages: Any) -> Message:
    return await asyncio.wait_for(anext(messages), 30)
