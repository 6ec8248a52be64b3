"""An SSE stream read with `httpx`, event by event, as the WHATWG text says; knows nothing of Headgate's frames."""

import asyncio
import contextlib
import json
from typing import Any, Final

import httpx

_ENDED: Final = object()


class Event:
    """One event: its name (`message` by default), `data` parsed as JSON, and its own id where it has one."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.name = fields.get("event", "message")
        self.data: Any = json.loads(fields["data"])
        self.id = fields.get("id")


class EventStream:
    """Reads in a task, so that a test may wait for an event without cutting the stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.retry_ms: int | None = None
        self.comments = 0
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.create_task(self._read())

    async def event(self, timeout_s: float) -> Event | None:
        """Returns the next event, None at the end of the stream. Raises TimeoutError."""
        got = await asyncio.wait_for(self._events.get(), timeout_s)
        if isinstance(got, BaseException):
            raise got
        return got if isinstance(got, Event) else None

    async def aclose(self) -> None:
        """Ends the reading."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.response.aclose()

    async def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            async for line in self.response.aiter_lines():
                fields = self._take(line, fields)
            self._events.put_nowait(_ENDED)
        except (httpx.TransportError, ValueError, KeyError) as error:
            self._events.put_nowait(error)

    def _take(self, line: str, fields: dict[str, str]) -> dict[str, str]:
        if not line:
            if "data" in fields:
                self._events.put_nowait(Event(fields))
            return {}
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments += 1
        elif name == "retry":
            self.retry_ms = int(value)
        elif name == "data" and "data" in fields:
            return {**fields, "data": f"{fields['data']}\n{value}"}
        return {**fields, name: value}
