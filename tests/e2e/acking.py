"""A client that acknowledges: one device works off one topic, fails where its plan says so, and keeps a ledger."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.delivery_ledger import DeliveryLedger

BACK_OFF_S: Final = (0.05, 0.3)
Fails = Callable[[int, int], bool]  # of a payload's number and the attempt that the frame names


class Worker:
    """One device of one user. Each message is acknowledged with an `id`, so that it knows what is in the log.

    The ledger is told in the order in which frames come and go; the first fault that it finds is kept in `fault`.
    """

    def __init__(self, user: str, urls: Sequence[str], topic: str, token: str, fails: Fails, most: int) -> None:
        self.user = user
        self.topic = topic
        self.ledger = DeliveryLedger(user, at_least_once=True)
        self.fault: AssertionError | None = None
        self.refused: dict[int, int] = {}  # seq -> attempt, of messages that did not come again since
        self.hopeless: set[int] = set()  # messages that are never acknowledged: only a dead letter settles them
        self.tries: list[tuple[int, int]] = []
        self.connections = 0
        self.is_subscribed = False
        self.frames: list[dict[str, Any]] = []  # all but messages
        self._urls = [url.replace("http", "ws", 1) + "/ws/subscribe" for url in urls]
        self._headers = {"Authorization": f"Bearer {token}"}
        self._fails = fails
        self._most = most
        self._begin: object = "earliest"
        self._task: asyncio.Task[None] | None = None
        self._at = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"worker-{self.user}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def check(self) -> None:
        """Raises the first fault."""
        if self.fault is not None:
            raise self.fault
        if self._task is not None and self._task.done():
            self._task.result()

    async def _run(self) -> None:
        while True:
            url = self._urls[self._at % len(self._urls)]
            with contextlib.suppress(OSError, InvalidHandshake, TimeoutError, ConnectionClosed):
                async with connect(url, additional_headers=self._headers, compression=None) as socket:
                    self.connections += 1
                    await self._work(socket)
            self.is_subscribed = False
            self.ledger.died()
            self.refused.clear()
            self._at += 1
            await asyncio.sleep(random.uniform(*BACK_OFF_S))

    async def _work(self, socket: ClientConnection) -> None:
        wish = {"type": "subscribe", "topic_id": self.topic, "ack": True, "device_id": "desk", "from": self._begin}
        await socket.send(msgspec.json.encode(wish).decode())
        async for text in socket:
            frame: dict[str, Any] = msgspec.json.decode(text)
            if frame["type"] == "message":
                await self._take(socket, frame)
                continue
            self.frames.append(frame)
            if frame["type"] == "subscribed":
                self._begin = "cursor"
                self.is_subscribed = True
            elif frame["type"] == "ok":
                self._answered(frame["id"])
            elif frame["type"] == "error":  # the owner is away
                await asyncio.sleep(0.2)
                await socket.send(msgspec.json.encode(wish).decode())

    async def _take(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        seq, attempt = frame["seq"], frame.get("attempt", 1)
        self.tries.append((seq, attempt))
        if seq not in self.ledger.seen:
            self.ledger.owe(seq)
        self._note(self.ledger.tried, seq, attempt)
        self.refused.pop(seq, None)
        if self._fails(frame["payload"]["n"], self._most):
            self.hopeless.add(seq)
        if self._fails(frame["payload"]["n"], attempt):
            self.refused[seq] = attempt
            self.ledger.refuse(seq)
            await self._answer(socket, "nack", seq, id=-seq, reason="planned")
        else:
            self._note(self.ledger.succeeded, seq, in_order=False)
            self.ledger.acknowledge(seq)
            await self._answer(socket, "ack", seq, id=seq)

    def _answered(self, number: int) -> None:
        """The log has an acknowledgement, or the server knows of a refusal: from here on nothing new overtakes it."""
        if number > 0:
            self._note(self.ledger.store, number)
        elif self.refused.get(-number, self._most) < self._most:  # else it may be given up by now
            self._note(self.ledger.failed, -number)

    async def _answer(self, socket: ClientConnection, kind: str, seq: int, **members: object) -> None:
        await socket.send(msgspec.json.encode({"type": kind, "topic_id": self.topic, "seq": seq, **members}).decode())

    def _note(self, what: Callable[..., None], *arguments: int, **named: bool) -> None:
        try:
            what(*arguments, **named)
        except AssertionError as error:
            self.fault = self.fault or error
