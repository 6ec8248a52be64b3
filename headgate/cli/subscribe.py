"""`headgate subscribe`: prints the messages of topics as they come, over lost connections and restarts."""

import asyncio
import os
import random
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from headgate.cli.client import token_of
from headgate.cli.following import Backoff, Frame, TopicPlace, after_close, json_form, read_frame
from headgate.cli.history import message_line
from headgate.cli.invocation import CommandFailed, Json, StreamUrl, Token, Url, WrongCommand, of
from headgate.cli.output import Output, fields, note
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.position import from_query

FORMS: Final = "live, earliest, EPOCH:SEQ, seq:N, ts:MS or last:N"
OPEN_S: Final = 10.0
MAX_FRAME: Final = 4 * 1024 * 1024  # the largest payload a server may be set to, with room
RESUBSCRIBE_S: Final = 1.0
PRESENCE: Final = frozenset({"presence", "presence_diff"})
_LOST: Final = 1006


def subscribe(
    context: typer.Context,
    *,
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC", help="The topics' ids.")],
    start: Annotated[str, typer.Option("--from", metavar="FORM", help=f"Where to begin: {FORMS}.")] = "live",
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many messages.", show_default=False)
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="Print every frame, not only messages.")] = False,
    presence: Annotated[
        bool, typer.Option("--presence", help="Print who is there and who comes and goes, beside the messages.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Share the messages with the members of this consumer group; needs --ack."),
    ] = None,
    ack: Annotated[bool, typer.Option("--ack", help="Acknowledge each message once it is printed.")] = False,
    url: Url = None,
    stream_url: StreamUrl = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints messages as they come, and goes on where it was after a lost connection. Ctrl-C ends it."""
    if group is not None and not ack:
        raise WrongCommand("--group NAME needs --ack")
    short = {"client.url": url, "client.stream_url": stream_url, "client.token": token}
    settings = of(context).settings(short)
    try:
        begin = json_form(from_query(start))
        places = {check_topic_id(topic): TopicPlace(topic, begin, presence=presence) for topic in topics}
        for place in places.values():
            place.acknowledge(ack=ack, group=group)
    except Refusal as error:
        known = "" if error.code != "bad_request" or start == "cursor" else f"--from {start} is none of {FORMS}"
        raise WrongCommand(known or error.detail) from None
    follower = _Follower(settings.stream_url, token_of(settings), places, Output(as_json))
    follower.frames, follower.left = frames, count
    follower.printed |= PRESENCE if presence else frozenset()
    try:
        return asyncio.run(follower.run())
    except KeyboardInterrupt:
        return 0


class _Follower:
    """One call of the command: follows `places` until none is left or `left` messages were printed."""

    def __init__(self, url: str, token: str | None, places: dict[str, TopicPlace], output: Output) -> None:
        self._shown_url = url
        self._url = f"ws{url.removeprefix('http')}/ws/subscribe"
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._places = places
        self._output = output
        self._retry_at: dict[str, float] = {}  # topics whose owner was away: when to ask again (loop time)
        self._backoff = Backoff(random.random)
        self._reached = False
        self._served = False  # whether the last connection delivered anything: only then may the next come at once
        self._failed = False
        self._last: Frame | None = None
        self.frames = False
        self.printed = frozenset({"message"})
        self.left: int | None = None

    async def run(self) -> int:
        """Connects again and again. Returns the exit status. Raises CommandFailed."""
        while True:
            code = await self._session()
            if self._done():
                return int(self._failed)
            action = after_close(code, self._last)
            if action == "stop":
                raise CommandFailed(f"{self._shown_url} ended the connection: {code} {_reason(self._last)}".rstrip())
            if action == "backoff" or not self._served:
                wait = self._backoff.next_s(None if self._last is None else self._last.retry_after_ms)
                await asyncio.sleep(wait)

    async def _session(self) -> int:
        """Serves one connection to its end. Returns the close code; _LOST when there was none."""
        self._last, self._served = None, False
        self._retry_at.clear()
        try:
            ws = await self._open()
        except InvalidStatus as error:
            return self._status(error)
        except (OSError, InvalidHandshake, InvalidMessage, TimeoutError) as error:
            if not self._reached:
                raise CommandFailed(f"cannot reach {self._shown_url}: {_plain(error)}") from None
            return _LOST
        self._reached = True
        try:
            for place in self._places.values():
                await ws.send(place.frame().decode())
            await self._read(ws)
        except ConnectionClosed as closed:
            return _LOST if closed.rcvd is None else closed.rcvd.code
        finally:
            await ws.close()
        return _LOST

    async def _open(self) -> ClientConnection:
        return await connect(
            self._url,
            additional_headers=self._headers,
            compression=None,
            max_size=MAX_FRAME,
            open_timeout=OPEN_S,
            close_timeout=1.0,
            proxy=None,
        )

    def _status(self, error: InvalidStatus) -> int:
        """Reads an HTTP answer to the handshake: only a 503 is worth a retry."""
        status = error.response.status_code
        if status not in (429, 503):
            raise CommandFailed(f"{self._shown_url} refused the WebSocket with HTTP {status}") from None
        after = error.response.headers.get("Retry-After", "")
        self._last = Frame(retry_after_ms=int(after) * 1_000 if after.isdigit() else None)
        return _LOST

    async def _read(self, ws: ClientConnection) -> None:
        while not self._done():
            for text in await self._received(ws):
                await self._acknowledge(ws, self._take(text))
                if self._done():
                    return

    async def _received(self, ws: ClientConnection) -> list[bytes]:
        """Returns the next frame, or None when a subscribe was repeated instead."""
        loop = asyncio.get_running_loop()
        until = min(self._retry_at.values(), default=None)
        try:
            async with asyncio.timeout_at(until):
                return [await ws.recv(decode=False)]
        except TimeoutError:
            for topic in [t for t, at in self._retry_at.items() if at <= loop.time()]:
                del self._retry_at[topic]
                await ws.send(self._places[topic].frame().decode())
            return []

    async def _acknowledge(self, ws: ClientConnection, frame: Frame) -> None:
        """With `--ack` a message is acknowledged once it is printed."""
        place = self._places.get(frame.topic_id)
        if place is not None and place.ack and frame.type == "message":
            ack = {"type": "ack", "topic_id": frame.topic_id, "seq": frame.seq}
            await ws.send(msgspec.json.encode(ack).decode())

    def _take(self, text: bytes) -> Frame:
        frame = read_frame(text)
        place = self._places.get(frame.topic_id)
        if place is not None:
            place.learn(frame)
        handler: Callable[[Frame], None] | None = {
            "subscribed": self._on_subscribed,
            "unsubscribed": self._on_unsubscribed,
            "error": self._on_error,
            "disconnect": self._on_disconnect,
        }.get(frame.type)
        if handler is not None:
            handler(frame)
        if self.frames or frame.type in self.printed:
            self._output.raw(text, message_line if frame.type == "message" else _frame_line)
        if frame.type == "message" and self.left is not None:
            self.left -= 1
        return frame

    def _on_subscribed(self, _: Frame) -> None:
        self._served = True
        self._backoff.reset()

    def _on_unsubscribed(self, frame: Frame) -> None:
        note(f"{frame.topic_id}: the subscription ended ({frame.reason})")
        self._places.pop(frame.topic_id, None)
        self._failed = self._failed or frame.reason == "forbidden"

    def _on_error(self, frame: Frame) -> None:
        if frame.topic_id in self._places and frame.retryable:
            wait = max((frame.retry_after_ms or 0) / 1_000, RESUBSCRIBE_S)
            self._retry_at[frame.topic_id] = asyncio.get_running_loop().time() + wait
            return
        note(f"{frame.topic_id or self._shown_url}: {frame.code}: {frame.message}")
        self._failed = True
        self._places.pop(frame.topic_id, None)

    def _on_disconnect(self, frame: Frame) -> None:
        self._last = frame

    def _done(self) -> bool:
        return not self._places or self.left == 0


def _reason(last: Frame | None) -> str:
    return "" if last is None else str(last.reason or "")


def _plain(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {OPEN_S:g} s"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio puts the address in place of the reason
    return str(error)


def _frame_line(frame: dict[str, object]) -> Text:
    rest = {name: value for name, value in frame.items() if name not in ("type", "topic_id")}
    return fields(
        (frame.get("type"), "yellow"), (frame.get("topic_id"), "bold"), (msgspec.json.encode(rest).decode(), "dim")
    )
