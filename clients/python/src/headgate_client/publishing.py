"""Publishing: every message has one `client_msg_id` through all attempts, so a retry never makes a second message."""

import asyncio
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Self

from headgate_client.api import FIRST_WAIT_S, PATIENCE_S, Api, retry_after_ms, topic_path
from headgate_client.errors import ClientError, Problem, Unreachable
from headgate_client.frames import encode
from headgate_client.reconnection import Backoff

BATCH_ITEMS: Final = 1_000
BATCH_BYTES: Final = 7 * 1024 * 1024  # under the 8 MiB that a server takes
_OPTIONAL: Final = (
    "topic_id", "client_msg_id", "key", "priority", "parent_message_id", "parent_version", "attachments",
)  # fmt: skip

Wait = Literal["accepted", "sequenced", "delivered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The answer to a publish. `seq`, `epoch` and `duplicate` are None where they are not known (`wait=accepted`)."""

    topic_id: str
    message_id: str
    client_msg_id: str
    seq: int | None = None
    epoch: int | None = None
    duplicate: bool | None = None
    delivered_to: int = 0
    delivered_to_basis: str = "unknown"
    dropped: bool | str = False

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Self:
        """Returns the answer of a JSON object; unknown members are left out."""
        return cls(**{name: answer[name] for name in cls.__slots__ if name in answer})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message of a batch. `topic_id` is needed where the batch has none; without a `client_msg_id` one is made.

    Messages of one `key` go to one member of a group, in order.
    """

    payload: Any
    topic_id: str | None = None
    client_msg_id: str | None = None
    key: str | None = None
    priority: Literal["NORMAL", "LOW"] | None = None
    parent_message_id: str | None = None
    parent_version: int | None = None
    attachments: Sequence[dict[str, Any]] | None = None

    def body(self, client_msg_id: str) -> dict[str, Any]:
        """Returns the JSON object to send."""
        given = {name: value for name in _OPTIONAL if (value := getattr(self, name)) is not None}
        return {**given, "client_msg_id": client_msg_id, "payload": self.payload}


class _Line(NamedTuple):
    at: int
    text: str


async def publish(api: Api, topic_id: str, message: Outgoing, wait: Wait, timeout_ms: int | None) -> Published:
    """Publishes one message. Raises Problem, Unreachable, CredentialsFailed, with the `client_msg_id`."""
    client_msg_id = message.client_msg_id or uuid.uuid4().hex
    params = {"wait": None if wait == "accepted" else wait, "timeout_ms": timeout_ms}
    path, body = topic_path(topic_id, "/publish"), message.body(client_msg_id)
    try:
        return Published.of(await api.request("POST", path, body=body, params=params, safe=True))
    except ClientError as error:
        error.client_msg_id = client_msg_id
        raise


async def publish_batch(
    api: Api, topic_id: str | None, messages: Iterable[Outgoing], wait: Wait, patience_s: float = PATIENCE_S
) -> list[Published | Problem]:
    """Publishes in order; returns one answer or problem for each message. Raises ValueError, Unreachable, and Problem
    where the server refused a whole batch: messages of batches before it are published then. The error has what is
    known of each message that was taken from `messages`."""
    path = "/api/v1/publish/batch" if topic_id is None else topic_path(topic_id, "/publish/batch")
    taken: list[str] = []
    answers: list[Published | Problem | None] = []
    try:
        for batch in batches(messages, taken):
            found: dict[int, Published | Problem] = {}
            try:
                await _batch(api, path, batch, wait, patience_s, found)
            finally:
                answers += [found.get(line.at) for line in batch]
    except ClientError as error:
        error.client_msg_ids = taken
        error.answers = answers + [None] * (len(taken) - len(answers))
        raise
    return [answer for answer in answers if answer is not None]


def batches(messages: Iterable[Outgoing], taken: list[str] | None = None) -> Iterator[list[_Line]]:
    """Yields batches within both bounds of the server; puts the `client_msg_id` of each message into `taken`."""
    batch: list[_Line] = []
    size = 0
    for message in messages:
        client_msg_id = message.client_msg_id or uuid.uuid4().hex
        text = encode(message.body(client_msg_id))
        if taken is not None:
            taken.append(client_msg_id)
        length = len(text.encode("utf-8", "surrogatepass")) + 1
        if batch and (len(batch) == BATCH_ITEMS or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(_Line(len(batch), text))
        size += length
    if batch:
        yield batch


async def _batch(
    api: Api, path: str, batch: list[_Line], wait: Wait, patience_s: float, answers: dict[int, Published | Problem]
) -> None:
    """Sends a batch, and again those of its messages that may still be taken; puts what is known into `answers`."""
    backoff = Backoff(random.random, FIRST_WAIT_S)
    deadline = time.monotonic() + patience_s
    left = batch
    while left:
        for line in left:
            answers.pop(line.at, None)  # it is sent again: what becomes of it is not known before the answer
        body = "\n".join(line.text for line in left)
        params = {"wait": None if wait == "accepted" else wait}
        answer = await api.request("POST", path, body=body, params=params, safe=True)
        results = answer["results"]
        if len(results) != len(left):
            raise Unreachable(f"the server answered {len(results)} of {len(left)} messages")
        for line, result in zip(left, results, strict=True):
            answers[line.at] = _answer(result)
        left = [line for line in left if _may_help(answers[line.at])]
        pause = backoff.next_s(max((_after_ms(answers[line.at]) for line in left), default=0))
        if time.monotonic() + pause > deadline:
            break
        if left:
            await asyncio.sleep(pause)


def _answer(result: dict[str, Any]) -> Published | Problem:
    status = result.get("status", 200)
    return Published.of(result) if status == 200 else Problem(status, result)


def _may_help(answer: Published | Problem) -> bool:
    return isinstance(answer, Problem) and answer.retryable


def _after_ms(answer: Published | Problem) -> int:
    return (retry_after_ms(answer) or 0) if isinstance(answer, Problem) else 0
