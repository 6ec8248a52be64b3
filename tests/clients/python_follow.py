"""Applications on the Python client in a process of their own: `python -m tests.clients.python_follow ORDERS`.

It takes orders and writes lines as `clients/js/test/served/follow.mjs` does with `keep`: states, grants, counts, and at
the end what each client was given. A line on standard input ends it.
"""

import asyncio
import json
import sys
import time
from typing import Any

from headgate_client import Client, Event, Gap, State, Subscribed

COUNT_EVERY_S = 0.5


def say(kind: str, **fields: Any) -> None:
    """Writes one line."""
    sys.stdout.write(json.dumps({"on": kind, **fields}, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class Follower:
    """One client and its loop over one topic."""

    def __init__(self, orders: dict[str, Any], number: int) -> None:
        self.who = f"{orders['name']}-{number}"
        self.messages: list[tuple[int | None, int | None, int, str]] = []
        self._topic = orders["one_topic_of"][number % len(orders["one_topic_of"])]
        urls = orders["stream_urls"]
        self._client = Client(
            orders["url"], token=orders["tokens"][number], stream_url=urls[::-1] if number % 2 else urls,
            trust_env=False, on_state=self._state, **orders.get("options", {}),
        )  # fmt: skip

    async def run(self) -> None:
        """Reads until it is closed."""
        following = self._client.subscribe(self._topic, from_="earliest", on_gap=self._gap, on_event=self._event)
        async for message in following:
            self.messages.append((message.epoch, message.seq, message.payload["number"], message.message_id))

    async def close(self) -> None:
        """Ends it and tells what it was given."""
        await self._client.close()
        say("kept", who=self.who, topic=self._topic, messages=self.messages)

    def _state(self, state: State) -> None:
        say("state", who=self.who, state=state.value, at=time.time() * 1_000)

    def _event(self, event: Event) -> None:
        if isinstance(event, Subscribed):
            say("subscribed", who=self.who, topic=self._topic, at=time.time() * 1_000)

    def _gap(self, gap: Gap) -> None:
        say("gap", who=self.who, topic=self._topic, reason=gap.reason)


async def main(orders: dict[str, Any]) -> None:
    """Runs all clients until a line comes."""
    followers = [Follower(orders, number) for number in range(orders["clients"])]
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    while not told.done():
        await asyncio.wait([told], timeout=COUNT_EVERY_S)
        say("count", count=sum(len(follower.messages) for follower in followers))
        for follower, task in zip(followers, tasks, strict=True):
            if task.done() and not told.done():
                say("end", who=follower.who, error=str(task.exception()))
                return
    for follower in followers:
        await follower.close()
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
