"""Subscribers that never stop: WebSocket and SSE clients that resume by cursor and check what comes. Keep nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tests.e2e.clients import SseReader, Subscriber
from tests.e2e.http import HttpAnswer
from tests.soak.load import padding
from tests.soak.subject import Findings, Reading, Subject

AGAIN_S = 0.3


class _Payload(msgspec.Struct):
    life: int
    n: int
    pad: str = ""


class _Frame(msgspec.Struct):
    type: str
    topic_id: str = ""
    seq: int = 0
    epoch: int = 0
    payload: _Payload | None = None


_frame = msgspec.json.Decoder(_Frame)


def _take_into(reading: Reading, payload: _Payload) -> None:
    if payload.pad == padding(payload.n):
        reading.take(payload.life, payload.n)
    else:
        reading.changed(payload.life, payload.n)


class SocketReader(Subscriber):
    """One WebSocket over several topics."""

    def __init__(self, name: str, urls: Sequence[str], subjects: Mapping[str, Subject], token: str, found: Findings):
        super().__init__(name, urls, list(subjects), token=token)
        self.readings = {topic: Reading(name, subject, found) for topic, subject in subjects.items()}
        self._later: set[asyncio.Task[None]] = set()

    @property
    def seen(self) -> int:
        """Messages seen."""
        return sum(reading.seen for reading in self.readings.values())

    def cut(self) -> None:
        """Loses its connection without a word."""
        if self._socket is not None:
            self._socket.transport.abort()

    def _take(self, text: bytes) -> None:
        frame = _frame.decode(text)
        reading = self.readings.get(frame.topic_id)
        if reading is None:
            return
        if frame.type == "message" and frame.payload is not None:
            self._cursors[frame.topic_id] = (self._cursors[frame.topic_id][0], frame.seq)
            _take_into(reading, frame.payload)
        elif frame.type == "subscribed":
            self._subscribed(reading, msgspec.json.decode(text))
        elif frame.type in ("unsubscribed", "error"):
            task = asyncio.create_task(self._ask_later(frame.topic_id))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
        elif frame.type == "gap":
            reading.gap(text.decode())

    def _subscribed(self, reading: Reading, frame: dict[str, Any]) -> None:
        topic, epoch = frame["topic_id"], frame["epoch"]
        self._granted.add(topic)
        old = self._cursors.get(topic)
        if old is None:
            self._cursors[topic] = (epoch, frame["seq"])
        elif old[0] != epoch:
            self._cursors[topic] = (epoch, frame["first_seq"] - 1)
        if frame.get("reason") == "ahead":
            reading.gap(f"at {old} and told that it is ahead of {frame['seq']}")

    async def _ask_later(self, topic: str) -> None:
        await asyncio.sleep(AGAIN_S)
        await self.ask(topic)


class StreamReader(SseReader):
    """One SSE stream of one topic."""

    def __init__(self, name: str, url: str, subject: Subject, token: str, found: Findings) -> None:
        super().__init__(url, subject.topic_id, token=token)
        self.reading = Reading(name, subject, found)

    @property
    def seen(self) -> int:
        """Messages seen."""
        return self.reading.seen

    async def _read(self, head: HttpAnswer, reader: asyncio.StreamReader) -> None:
        if head.status == 200:
            await super()._read(head, reader)

    def _take(self, event: str, data: bytes) -> None:
        if event == "gap":
            self.reading.gap(data.decode())
        elif event == "message":
            frame = _frame.decode(data)
            assert frame.payload is not None
            _take_into(self.reading, frame.payload)
