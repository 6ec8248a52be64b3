"""Marks the messages of users as read: who creates a topic is a member of it, and has an inbox that fills."""

import asyncio
from collections.abc import Sequence
from typing import Final

from tests.e2e.clients import Publisher
from tests.e2e.harness import token
from tests.e2e.http import NoAnswer

EVERY_S: Final = 2.0


async def mark_read(url: str, user: str) -> bool:
    """Marks all of a user's messages as read; returns False when something is away."""
    async with Publisher(url, token(user, service=True), timeout_s=5.0) as reader:
        try:
            page = ""
            while page is not None:
                inbox = await reader.call("GET", f"/api/v1/inbox?limit=1000{page and f'&page={page}'}")
                if inbox.status != 200:
                    return False
                for topic in inbox.body["topics"]:
                    body = {"topic_id": topic["topic_id"], "seq": topic["head_seq"], "kind": "read"}
                    if topic["unread"] and (await reader.call("POST", "/api/v1/inbox/ack", body)).status != 204:
                        return False
                page = inbox.body["next_page"]
        except (NoAnswer, TimeoutError):
            return False
    return True


async def keep_read(url: str, users: Sequence[str]) -> None:
    """Does so for each of them now and then, until cancelled."""
    while True:
        for user in users:
            await mark_read(url, user)
        await asyncio.sleep(EVERY_S)
