"""Follows topics with the Python client for `headgate subscribe`, and prints what comes."""

import asyncio
import contextlib
from typing import Final, NamedTuple

import msgspec
from rich.text import Text

from headgate.cli.client import token_of
from headgate.cli.history import message_line
from headgate.cli.invocation import CommandFailed, WrongCommand
from headgate.cli.output import Output, fields, note
from headgate.core.wire.errors import HeadgateError
from headgate.runtime.settings import Settings
from headgate_client import (
    Client,
    ConnectionStopped,
    Event,
    Gap,
    Message,
    Presence,
    PresenceDiff,
    SubscribeRefused,
    Subscription,
    SubscriptionEnded,
    Unreachable,
)

ACK_S: Final = 1.0  # for what is printed to be acknowledged, with --frames


class Wish(NamedTuple):
    """How topics are followed; `start` is a `from` in the form of a query."""

    start: str
    presence: bool
    ack: bool
    device: str | None
    group: str | None


class Follower:
    """One call of the command. With `frames` it prints every frame as it comes, else messages and presence."""

    def __init__(self, settings: Settings, *, as_json: bool, frames: bool, count: int | None) -> None:
        """`count`: end after so many messages. Raises WrongCommand for a URL that is none."""
        self._url = settings.stream_url
        self._output = Output(as_json)
        self._frames = frames
        self._left = count
        self._unacknowledged: set[bytes] | None = None  # messages that were printed; only where they are counted
        self._failed = False
        self._error: HeadgateError | None = None
        self._enough = asyncio.Event()
        try:
            self._client = Client(
                self._url,
                token=token_of(settings),
                retry_first=False,
                trust_env=False,
                transport="websocket",
                on_frame=self._on_frame if frames else None,
            )
        except ValueError as error:
            raise WrongCommand(f"{self._url}: {error}") from None

    async def follow(self, topics: list[str], wish: Wish) -> int:
        """Prints until no topic is left or `count` messages came. Returns the exit status. Raises CommandFailed."""
        if wish.ack and self._frames and self._left is not None:
            self._unacknowledged = set()
        async with self._client as client:
            messages = client.subscribe(
                *topics, from_=wish.start, presence=wish.presence or None, ack="manual" if wish.ack else False,
                device_id=wish.device, group=wish.group, on_gap=self._on_gap,
                on_event=self._on_event if wish.presence else None,
            )  # fmt: skip
            reading = asyncio.create_task(self._read(messages, wish.ack))
            enough = asyncio.create_task(self._enough.wait())
            try:
                await asyncio.wait([reading, enough], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reading, enough):
                    task.cancel()
                ended = (await asyncio.gather(reading, return_exceptions=True))[0]
        if self._error is not None:
            raise self._error
        if isinstance(ended, Exception):
            raise ended
        return int(self._failed)

    async def _read(self, messages: Subscription, ack: bool) -> None:
        while not self._enough.is_set():
            try:
                message = await anext(messages, None)
            except (SubscribeRefused, SubscriptionEnded) as error:
                note(str(error))
                self._failed = self._failed or getattr(error, "reason", "forbidden") == "forbidden"
                continue
            except ConnectionStopped as error:
                raise CommandFailed(f"{self._url} ended the connection: {error.code} {error.reason}".rstrip()) from None
            except Unreachable as error:
                raise CommandFailed(str(error)) from None
            if message is None or not self._is_printed(message):
                return
            if not self._frames:
                self._output.raw(message.text, message_line)
                self._counted()
            if ack:
                messages.ack(message)
                self._acknowledged(message)

    def _is_printed(self, message: Message) -> bool:
        """Whether it may be acknowledged: one that came behind the last that was printed may not."""
        return self._unacknowledged is None or message.text in self._unacknowledged

    def _acknowledged(self, message: Message) -> None:
        if self._unacknowledged is not None:
            self._unacknowledged.discard(message.text)
            if self._left == 0 and not self._unacknowledged:
                self._enough.set()

    def _on_frame(self, frame: dict[str, object], text: bytes) -> None:
        if self._enough.is_set() or self._left == 0:
            return
        is_message = frame["type"] == "message"
        try:
            self._output.raw(text, message_line if is_message else _frame_line)
        except HeadgateError as error:  # the client is not ours: it must not get errors of the output
            self._error = error
            self._enough.set()
        if is_message:
            if self._unacknowledged is not None:
                self._unacknowledged.add(text)
            self._counted()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Presence | PresenceDiff) and not self._frames:
            self._output.raw(event.text, _frame_line)

    def _on_gap(self, gap: Gap) -> None:
        if gap.reason == "recreated":
            note(f"{gap.topic_id}: the topic was deleted and created again")
        else:
            note(f"{gap.topic_id}: {gap.count} messages are missing ({gap.reason})")

    def _counted(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left == 0 and not self._unacknowledged:
                self._enough.set()
            elif self._left == 0:  # the client hands over no message twice: of such a one nothing is acknowledged
                asyncio.get_running_loop().call_later(ACK_S, self._enough.set)


def run(follower: Follower, topics: list[str], wish: Wish) -> int:
    """Runs it to its end; Ctrl-C is a good end. Returns the exit status. Raises CommandFailed, ReaderGone."""
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(follower.follow(topics, wish))
    return 0


def _frame_line(frame: dict[str, object]) -> Text:
    rest = {name: value for name, value in frame.items() if name not in ("type", "topic_id")}
    return fields(
        (frame.get("type"), "yellow"), (frame.get("topic_id"), "bold"), (msgspec.json.encode(rest).decode(), "dim")
    )
