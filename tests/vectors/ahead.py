"""Runs the vectors that mostly wait beside the others: all at once, in a thread, on servers of their own."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, Self

from tests.vectors.served import Served
from tests.vectors.steps import Run, Step

# 2 to 15 s each, and hardly any work.
PATIENT: Final = frozenset(
    {
        "1_identity: 1 Ways: the auth deadline is 5 s",
        "1_identity: 1 Refresh: a connection outlives its first token",
        "1_identity: 4 Close: an SSE stream ends with disconnect 4610 when its token expires",
        "2_topics: 2 Info: the answer",
        "2_inbox: 2 Inbox: a topic says where the device and the user are, and how many messages are unread",
        "2_inbox: 2 Inbox: pages of topics, ascending by id",
        "2_inbox: 2 Inbox: messages above the device's cursors, topics by their oldest missed message",
        "2_inbox: 2 Inbox: each message as it is now; edits, reactions and redactions are no messages",
        "2_inbox: 2 Inbox: an ack is 204, never moves back, and above the head is the head",
        "2_inbox: 2 Inbox: the cursor is the one of acknowledged subscriptions",
        "2_inbox: 2 Inbox: the place of a topic that was deleted and created again begins anew",
        "8_aliases: 8 POST /ack: the message_id alone is enough",
        "3_frames: 4 Heartbeat: a client that answers pings stays, and welcome tells the times",
        "5_sse: 5 Alive: a comment every 15 s",
        "0_answers: 7 Limits: a body that does not come in time is request_timeout",
    }
)


class Vector(NamedTuple):
    """One rule: the server's name, the tokens, the steps."""

    server: str
    tokens: dict[str, Any]
    steps: list[Step]


class Ahead:
    """Runs vectors from `with` on; a test waits for the end of its own. `start` starts a server by its name."""

    def __init__(self, vectors: Mapping[str, Vector], start: Callable[[str], Served]) -> None:
        self._vectors = dict(vectors)
        self._start = start
        self._ended: dict[str, Future[None]] = {name: Future() for name in vectors}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="vectors-ahead")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def __contains__(self, name: str) -> bool:
        return name in self._ended

    async def ended(self, name: str) -> None:
        """Waits for the end of a vector. Raises what it raised."""
        await asyncio.wrap_future(self._ended[name])

    async def _run(self) -> None:
        with ExitStack() as stack:
            try:
                names = {vector.server for vector in self._vectors.values()}
                servers = {name: stack.enter_context(self._start(name)) for name in sorted(names)}
            except Exception as error:
                for future in self._ended.values():
                    future.set_exception(error)
                return
            await asyncio.gather(*(self._one(name, servers) for name in self._vectors))

    async def _one(self, name: str, servers: Mapping[str, Served]) -> None:
        vector = self._vectors[name]
        try:
            await Run(servers[vector.server], vector.tokens).steps(vector.steps)
        except Exception as error:
            self._ended[name].set_exception(error)
        else:
            self._ended[name].set_result(None)
